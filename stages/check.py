"""Stage check: the whole of params.yaml against its schema, the device and the folder, before anything is computed.

Reads params.yaml. Writes data/checked, always the same bytes, so that a new value in params.yaml reruns this stage
and then only the stages that read the value. Every other stage depends on this one, and DVC removes a stage's
outputs only when it runs the stage: a mistake found here costs no earlier result.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

from pathlib import Path

from stages.autoencoder.core import files
from stages.autoencoder.params import folder_presence
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.all_sections import Params
from stages.runtime.command import run_stage

CHECKED = Path("data/checked")


def main() -> None:
    params = loader.load(Params, whole_file=True)
    if params.device not in ("auto", "cpu") or (params.device == "auto" and params.processes > 1):
        from stages.autoencoder.model import devices  # imports torch, seconds that only a GPU needs

        if params.device != "auto":
            devices.check_present(params.device)
        devices.check_count(params.device, params.processes)
    if params.download.dataset == "folder":
        folder_presence.check_folder(params.download.folder)
    files.write(CHECKED, b"params.yaml follows its schema\n")


if __name__ == "__main__":
    run_stage(main)
