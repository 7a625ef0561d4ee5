"""The base class of every section, and the keys at the top level of params.yaml.

No field has a default: params.yaml is the one place where a value stands.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Strict: no unknown key, no conversion of types, no NaN or infinity, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


LatentDim = Annotated[int, Field(ge=1, le=65536, description="numbers in the code of one image")]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="decides initial weights, batch order, augmentation and noise")]
Device = Annotated[
    str,
    Field(
        pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,3}|mps)$",
        json_schema_extra={"rule": "one of auto, cpu, cuda, cuda:N, mps"},
        description="auto | cpu | cuda | cuda:N | mps; auto takes a CUDA GPU if there is one",
    ),
]
Numerics = Annotated[
    Literal["portable", "fast"],
    Field(
        description="portable: the same bytes on every x86-64 CPU with AVX2 and FMA; fast: full speed, reproducible"
        " only on this machine"
    ),
]
Processes = Annotated[
    int,
    Field(ge=1, le=64, description="processes that train one model; changing it changes results in the last digits"),
]
Threads = Annotated[
    int,
    Field(
        ge=1,
        le=256,
        description="CPU threads of portable, in each process; changing it changes results in the last digits",
    ),
]
