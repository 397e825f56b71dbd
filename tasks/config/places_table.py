"""Table of named places: the section of the configuration that says where it is and whose it is."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from tasks.config.sections import Section

AIRPORTS = "airports"


class PlacesConfig(Section):
    """Named places that a network looks up around points; for the family foundry."""

    table: str = Field(
        "",
        max_length=1_000,
        description="CSV or Parquet file with the columns longitude_deg, latitude_deg and text, or "
        "airports: those of the package airportsdata. No places are looked up if empty.",
    )
    source: str = Field(
        "",
        max_length=300,
        description="Where your table is from, as the card of a model tells it.",
    )
    licence: str = Field(
        "", max_length=200, description="Of your table, as the card of a model tells it."
    )
    vectors: str = Field(
        "",
        max_length=200,
        description="Function of your own, as my_module:my_function, from a list of texts to an "
        "array with a row of numbers for each; the letters that texts share if empty.",
    )
    reach_m: float | None = Field(
        None,
        gt=0,
        le=2e6,
        title="Reach (m)",
        description="Places farther from a point tell nothing there; 20 usual steps of train if "
        "empty.",
    )

    @field_validator("source", "licence")
    @classmethod
    def is_one_line(cls, told: str) -> str:
        """A line of the card, and nothing where only blanks are told."""
        return " ".join(told.split())

    @model_validator(mode="after")
    def a_table_has_its_source(self) -> PlacesConfig:
        told = [name for name in ("source", "licence", "vectors", "reach_m") if getattr(self, name)]
        if not self.table and told:
            raise ValueError(f"{told[0]} is of a table of places: give places.table with it")
        if self.table == AIRPORTS and {"source", "licence"} & {*told}:
            raise ValueError("the table airports tells its own source and licence: leave them out")
        if self.table and self.table != AIRPORTS and not (self.source and self.licence):
            raise ValueError(
                "a table of your own needs places.source and places.licence, which the card of the "
                "model tells"
            )
        return self
