"""What the stages that use a trained model read; all else stands in the model file."""

from stages.autoencoder.params.base.section import Device, Numerics, Section, Threads


class ModelUseParams(Section):
    """What reconstruct, embed, classify and sample read."""

    device: Device
    numerics: Numerics
    threads: Threads
