"""Transcribe a folder or a manifest with Ray Data: each worker runs the engine in its own process, without a server.

    pip install 'asrloop[bulk]' && asrloop models
    python examples/bulk_ray.py recordings/ out/                          # a Parquet file every 500 recordings
    python examples/bulk_ray.py manifest.jsonl out/ --form jsonl          # lines {"audio": "path"}
    python examples/bulk_ray.py recordings/ out/ --word-times             # with the column `words`: each with its times
    python examples/bulk_ray.py recordings/ out/ --diarize                # with speakers, 0, 1, ..., of segments and words
    python examples/bulk_ray.py recordings/ out/ --address auto           # on the Ray cluster of this machine

Run it again to resume: recordings in `out/` without errors are skipped. The workers read the files
themselves, so on several machines the paths must be the same.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # turns off Ray's telemetry
import ray

from asrloop.audio.containers import SUFFIXES

A_TURN = 16
"""Recordings that a worker decodes side by side."""

SPOKEN = {"text": pa.string(), "start": pa.float64(), "end": pa.float64(), "speaker": pa.int32()}
SCHEMA = pa.schema(
    {
        "path": pa.string(), "text": pa.string(), "error": pa.string(), "seconds": pa.float64(), "confidence": pa.float64(),
        "complete": pa.bool_(), "language": pa.string(), "segments": pa.list_(pa.struct(SPOKEN)),
        "words": pa.list_(pa.struct({**SPOKEN, "confidence": pa.float64()})),
    }
)  # fmt: skip
Row = dict[str, Any]


class Form(StrEnum):
    """Format of the output files."""

    PARQUET = "parquet"
    JSONL = "jsonl"


class Worker:
    """The engine in a Ray process."""

    def __init__(self, model: str, cores: int, asked: dict[str, Any]) -> None:
        from asrloop import config
        from asrloop.offline import Model

        threads = {"encoders": cores, "encoder_threads": cores, "decoder_threads": max(cores // 2, 1)}
        settings = config.load()
        engine = settings.engine.model_copy(update=threads)
        self._model = Model(Path(model), settings.model_copy(update={"engine": engine}))
        self._options = self._model.options(**asked)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Return the columns of SCHEMA for the column `path`."""
        done = self._model.transcribe_many(map(Path, batch["path"]), options=self._options)
        rows = [self._row(heard) for heard in done]
        return {name: [row[name] for row in rows] for name in SCHEMA.names}

    def _row(self, heard: Any) -> Row:
        said = heard.transcript
        words = said.words if said and self._options.word_times else []
        return {
            "path": str(heard.path),
            "text": said.text if said else "",
            "error": str(heard.error or ""),
            "seconds": float(heard.seconds),
            "confidence": float(said.confidence) if said else 0.0,
            "complete": bool(said and said.complete),
            "language": said.language if said else "",
            "segments": [_spoken(each.text, each.start, each.end, each.speaker) for each in said.segments]
            if said
            else [],
            "words": [
                {**_spoken(each.text.strip(), *each.times, each.speaker), "confidence": each.confidence}
                for each in words
                if each.times
            ],
        }


def _spoken(text: str, start: float, end: float, speaker: int) -> Row:
    return {"text": text, "start": start, "end": end, "speaker": speaker if speaker >= 0 else None}


class Output:
    """Folder that results are added to. Files get their final name when they are complete."""

    def __init__(self, folder: Path, form: Form, rows_a_file: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._form, self._rows_a_file = folder, form, rows_a_file
        self._rows: list[Row] = []

    def done(self) -> set[str]:
        """Return the paths that were transcribed without errors."""
        found = set()
        for path in self._folder.glob("part-*.parquet"):
            rows = pq.read_table(path, columns=["path", "error"]).to_pylist()
            found.update(row["path"] for row in rows if not row["error"])
        for path in self._folder.glob("part-*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                if not row["error"]:
                    found.add(row["path"])
        return found

    def add(self, row: Row) -> None:
        """Add a row; write a file when there are enough."""
        self._rows.append(row)
        if len(self._rows) >= self._rows_a_file:
            self.write()

    def write(self) -> None:
        """Write the rows added so far as a file."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        target = self._folder / f"part-{time.time_ns()}.{self._form.value}"
        unfinished = target.with_name(f".{target.name}")
        if self._form is Form.PARQUET:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), unfinished)
        else:
            unfinished.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        unfinished.rename(target)


def recordings(source: Path) -> Iterator[str]:
    """Yield the files of a folder, at any depth, or those in a manifest."""
    if source.is_dir():
        yield from sorted(str(path.resolve()) for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    else:
        for line in filter(str.strip, source.read_text(encoding="utf-8").splitlines()):
            yield str((source.parent / json.loads(line)["audio"]).resolve())


def transcribed(paths: Sequence[str], model: Path, workers: int, cores: int, asked: dict[str, Any]) -> Iterator[Row]:
    """Yield rows as they are ready, in any order; ``asked`` are request parameters."""
    # Split into blocks at the start: the workers hold all cores, so a later splitting step would wait forever.
    dataset = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=-(-len(paths) // A_TURN))
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2)
    heard = dataset.map_batches(
        Worker, fn_constructor_args=(str(model), cores, asked), compute=pool, num_cpus=cores, batch_size=A_TURN
    )
    yield from heard.iter_rows()


def main(
    source: Annotated[Path, typer.Argument(help="Folder of recordings, or manifest.jsonl.", exists=True)],
    output: Annotated[Path, typer.Argument(help="Folder for the transcripts.")],
    form: Annotated[Form, typer.Option(help="Format of the output files.")] = Form.PARQUET,
    rows_a_file: Annotated[
        int,
        typer.Option(help="Rows in a file. Rows that are not in a file yet are lost in a crash and done again.", min=1),
    ] = 500,
    model: Annotated[Path, typer.Option(help="Folder of the prepared model.")] = Path(
        "model_repository/decoder_loop/1"
    ),
    cores: Annotated[
        int, typer.Option(help="A worker's cores; an engine gains little from more than four.", min=1)
    ] = 4,
    word_times: Annotated[
        bool, typer.Option("--word-times", help="Fill the column `words`; without it its lists are empty.")
    ] = False,
    diarize: Annotated[bool, typer.Option("--diarize", help="Tell who spoke, by the voices; with words.")] = False,
    diarize_channels: Annotated[
        bool,
        typer.Option(
            "--diarize-channels", help="Tell who spoke: each channel of a recording is a speaker; with words."
        ),
    ] = False,
    speakers: Annotated[int | None, typer.Option(help="With --diarize: most speakers that there are.", min=1)] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster. Default: a new one on this machine.")
    ] = None,
    price: Annotated[
        float | None, typer.Option(help="Price of a core hour, to compute the cost of 1,000 hours.")
    ] = None,
) -> None:
    """Transcribe all recordings in SOURCE that are not in OUTPUT yet."""
    if diarize and diarize_channels:
        raise typer.BadParameter("give one of --diarize and --diarize-channels")
    if speakers is not None and not diarize:
        raise typer.BadParameter("--speakers is given without --diarize: give both")
    most = {} if speakers is None else {"speakers": speakers}
    asked = {"word_times": word_times, "diarize": "channels" if diarize_channels else diarize, **most}
    console = Console(stderr=True, highlight=False)
    out = Output(output, form, rows_a_file)
    done = out.done()
    paths = [path for path in recordings(source) if path not in done]
    console.print(f"{len(paths)} recordings to do, {len(done)} done before.")
    if not paths:
        return
    ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    there = int(ray.cluster_resources()["CPU"])
    cores = min(cores, there)
    workers = max(there // cores, 1)
    rows, failed, seconds, started = 0, 0, 0.0, time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("transcribing", total=len(paths))
            for row in transcribed(paths, model.resolve(), workers, cores, asked):
                out.add(row)
                rows, failed, seconds = rows + 1, failed + bool(row["error"]), seconds + row["seconds"]
                took = time.monotonic() - started
                bar.update(
                    task,
                    completed=rows,
                    description=f"{seconds / 3600:.2f} h of audio, {seconds / took:.0f} x real time",
                )
    except KeyboardInterrupt:
        console.print("Stopped. Run it again to resume.")
        raise typer.Exit(130) from None
    finally:
        out.write()
        ray.shutdown()
    took = time.monotonic() - started
    console.print(
        f"{rows} recordings, {failed} with errors; {seconds / 3600:.2f} h of audio in {took:.0f} s by {workers} workers."
    )
    if seconds:
        core_hours = 1000 * took * workers * cores / seconds
        cost = "" if price is None else f", {core_hours * price:.2f} at {price:g} each"
        console.print(f"1,000 h of such audio: {core_hours:.1f} core hours{cost}.")
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    typer.run(main)
