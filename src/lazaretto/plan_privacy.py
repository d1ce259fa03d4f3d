"""The section [privacy] of a plan: whom what leaves a site protects, and by how much."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from lazaretto.plan_values import Options, Section

__all__ = ["PrivacyPlan"]


class PrivacyPlan(Section):
    """Differential privacy: whose presence nobody can tell from what leaves a site, and how surely."""

    mechanism: str = Field(
        default="none", description="Name of a mechanism (`lazaretto list mechanisms`), or none."
    )
    unit: Literal["record", "patient", "site"] = Field(
        default="record",
        description="Who is protected: `record`: one window of a stream; `patient`: a whole stream, with all "
        "that is in it; `site`: all that a site has.",
    )
    epsilon: Annotated[float, Gt(0), Le(100)] | None = Field(
        default=None,
        description="The most that the run may cost a training unit, and a validation unit. Without "
        "`noise_multiplier` the noise is found that spends it; with it a run that would cost more is "
        "refused. For whole sites it limits the training alone, as their counts are exact.",
    )
    epsilon_of: Literal["run", "repetition"] = Field(
        default="run",
        description="What `epsilon` limits: `run`: all repetitions (`run.seeds`) together, as they are all "
        "published; `repetition`: each by itself, and the report says what all cost.",
    )
    delta: Annotated[float, Gt(0), Lt(0.1)] = Field(
        default=1e-5, description="Chance with which the promise may not hold; far below one over all units."
    )
    noise_multiplier: Annotated[float, Gt(0), Le(1000)] | None = Field(
        default=None, description="Standard deviation of a step's noise, divided by `clip`."
    )
    clip: Annotated[float, Gt(0)] = Field(
        default=1.0, description="Largest length of one example's gradient, or of a site's update."
    )
    sample_rate: Annotated[float, Gt(0), Le(1)] = Field(
        default=0.1,
        description="Chance of every example to be in a step; a pass over a site's data is so many steps as "
        "one divided by it.",
    )
    appearances: Annotated[int, Ge(1), Le(1000)] | None = Field(
        default=None,
        description="In how many examples of a site one unit stands at most: a record in windows that share "
        "steps, a stay that is there in copies. Priced, and refused where the data show more. Without it "
        "what the source says of its own layout, which is 1 where windows follow each other.",
    )
    options: Options = Field(default_factory=dict, description="Further options of the mechanism.")
    noise: Literal["seed", "system"] = Field(
        default="seed",
        description="Where noise and samples come from: `seed`: a simulation's, which whoever knows the seed "
        "can take off; `system`: a cryptographic generator, keyed anew by the operating system.",
    )
    distributed: bool = Field(
        default=False,
        description="Whether sites share the noise: each adds a part, and all of it is in the sum alone, "
        'which `secure.protocol = "masked"` opens. Far less noise, and sites are taken at their word.',
    )
    counts_noise: Annotated[float, Ge(0.1), Le(1000)] = Field(
        default=10.0,
        description="Noise multiplier of what sites count of training values, for scaling.",
    )
    threshold_noise: Annotated[float, Ge(0.1), Le(1000)] = Field(
        default=2.0,
        description="Noise multiplier of what sites count of validation scores, for thresholds and "
        "calibration; with more than a few the thresholds are no longer those that were asked for.",
    )
    budget: str | None = Field(
        default=None,
        min_length=1,
        description="File in which all runs on the same data are added up, relative to the plan's folder.",
    )
    budget_epsilon: Annotated[float, Gt(0)] | None = Field(
        default=None, description="The most that all runs of the budget file together may cost one unit."
    )
    budget_data: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="What the data set is called in the budget file, so that a copy with one other byte is "
        "the same data; absent: it is known by its content.",
    )
