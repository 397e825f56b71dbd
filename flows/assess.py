"""Assess: a model beside the baselines on the same windows, newly trained or registered before."""

from prefect import flow

from flows import steps
from flows.steps import Transferred
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import SharePercent
from tasks.release.outcome import Assessment


@flow
def assess(
    config: PipelineConfig = PipelineConfig(),
    model: str = "",
    source: str = "",
    few_shot: tuple[SharePercent, ...] = (),
) -> Assessment | Transferred:
    """Compare a model with the baselines, register it, and promote it if it is better.

    With the address of a registered model, that one is judged on these data instead: nothing of it
    is fitted on them, and nothing is registered. With percents in few_shot, it is also fine-tuned
    on these shares of the train entities, and judged beside itself.

    Args:
        config: The dataset, and everything else that can change a result.
        model: A registered model, such as models:/NAME@champion, or a class of your own, such as
            my_package.my_module:MyModel; empty to train one.
        source: Raw files, where a registered model is judged; empty for what was last ingested.
        few_shot: Percents of the train entities, such as 1 and 5, to fine-tune on.
    """
    return steps.assess(config, model, source, few_shot)
