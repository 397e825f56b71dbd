"""Pipeline: from raw files to a registered model: ingest, prepare, pretrain, assess."""

from prefect import flow

from flows import steps
from tasks.config.pipeline import PipelineConfig
from tasks.release.outcome import Assessment


@flow
def pipeline(
    config: PipelineConfig = PipelineConfig(),
    source: str = "",
    corpus: str = "",
    source_folder: str = "",
) -> Assessment:
    """From the raw files of a dataset, or of all members of a corpus, to a registered model.

    Args:
        config: The dataset, and everything else that can change a result.
        source: File, folder, archive or address of the raw files; empty for the embedded sample.
        corpus: open or world, or the path of a TOML file of your own: datasets that one model is
            trained on, instead of the dataset above; empty for that one alone.
        source_folder: Folder of the raw files that the corpus names.
    """
    return steps.pipeline(config, source, corpus, source_folder)
