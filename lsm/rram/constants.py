"""What single operations cost in energy, each number with its source; the values are in `conf/energy/`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class EnergyConstants:
    """Energies of single operations; `sources` says where each is from. Raises `ValidationError` on a bad value."""

    v_read_V: Annotated[NotNegative, Field(description="read voltage")]
    t_read_ns: Annotated[NotNegative, Field(description="time for which a row is driven")]
    e_adc_pJ: Annotated[NotNegative, Field(description="one conversion")]
    e_row_pJ: Annotated[NotNegative, Field(description="driving one row once")]
    e_lif_pJ: Annotated[NotNegative, Field(description="one step of one neuron")]
    e_dig_pJ: Annotated[NotNegative, Field(description="one operation of the projection in the hybrid system")]
    e_mem_pJ: Annotated[NotNegative, Field(description="moving one byte to the digital part")]
    e_gpu_pJ: Annotated[NotNegative, Field(description="one operation of a GPU")]
    e_add_pJ: Annotated[NotNegative, Field(description="one addition of event-driven digital hardware")]
    e_mac_pJ: Annotated[NotNegative, Field(description="one multiply-accumulate of digital hardware")]
    sources: Annotated[dict[str, str], Field(description="where each constant is from")]

    @model_validator(mode="after")
    def _all_have_sources(self) -> EnergyConstants:
        names = [f.name for f in dataclasses.fields(self) if f.name != "sources"]
        without = [name for name in names if not self.sources.get(name, "").strip()]
        if without:
            raise ValueError(f"sources.{without[0]}: every constant needs a source")
        return self
