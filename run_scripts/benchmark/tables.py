"""Tables of accuracies, with a row for each task and a column for each method."""

import pandas as pd


def build_table(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """
    Arranges a column of rows that have a `task` and a `method` as a table of tasks and methods, both in the order of
    the rows. Methods without any value are left out.
    """
    known = rows.dropna(subset=value)
    table = known.pivot(index="task", columns="method", values=value)
    return table.reindex(index=rows["task"].unique(), columns=known["method"].unique())


def format_table(table: pd.DataFrame, deviations: pd.DataFrame | None = None) -> str:
    """
    Formats the accuracy in % of each task (row) and method (column) as a table in Markdown, with the standard
    deviations in the same form, if there are any. Missing values, which are NaN, are dashes. If there are several
    tasks, the last row is the mean over them, for methods that have a value for each task.
    """
    if len(table) > 1:
        table = pd.concat([table, table.mean(skipna=False).to_frame("mean").T])
    texts = table.map(lambda value: "–" if pd.isna(value) else f"{value:.1f}")
    if deviations is not None:
        deviations = deviations.reindex(index=table.index, columns=table.columns)
        texts += deviations.map(lambda value: "" if pd.isna(value) else f" ± {value:.1f}")
    return to_markdown(texts.rename_axis(index="task"))


def to_markdown(texts: pd.DataFrame) -> str:
    """Formats a table of texts in Markdown. pandas needs another package for it."""
    lines = [[texts.index.name, *texts.columns], ["---"] + ["---:"] * len(texts.columns), *texts.itertuples()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
