"""Types and limits of the sections of params.yaml. No values: those are in params.yaml alone.

Shelf sections (datasets, views, losses, weightings) are typed in the part's own file, so a new part edits nothing here.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from spkd.config import Section

Count = Annotated[int, Field(ge=1, le=2**62)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Weight = Annotated[float, Field(ge=0)]


def _each_once(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError("each of them once")
    return values


def _shares(values: list[float]) -> list[float]:
    if values and abs(sum(values) - 1) > 0.005:  # 0.333 three times is meant as a third each
        raise ValueError("weights that sum to 1; lambda, base and beta say how much all teachers count")
    return values


def _named_after_parts(rows: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Messages name the DVC stage of a view by its data set and its own name."""
    for name, row in rows.items():
        if name != (wanted := f"{row.get('dataset')}-{row.get('view')}"):
            raise ValueError(f"rows named <dataset>-<view>, as {wanted}, not {name}")
    return rows


Once = AfterValidator(_each_once)


class Run(Section):
    """Machine and randomness."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]  # ultralytics adds to it and takes 32 bits
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    threads: Annotated[int, Field(ge=0)]
    deterministic: bool
    tf32: bool
    folder: Text


class Model(Section):
    """One network on one view."""

    view: str
    network: str


class Distill(Section):
    """Which teachers, and how strongly they pull."""

    teachers: Annotated[
        list[Annotated[str, Field(pattern=r"^(run:\w+|model:[\w.-]+(/\d+)?|\w+:[\w.-]+)(@early)?$")]], Once
    ]
    alphas: Annotated[list[Weight], AfterValidator(_shares)]
    weighting: str
    lambda_: Fraction = Field(alias="lambda")
    base: Weight
    beta: dict[str, Weight]
    taps: Annotated[list[str], Once]
    init: Annotated[str, Field(pattern=r"^(none|latest|run:\w+)$")]


class Train(Section):
    """The one training loop."""

    epochs: Count
    batch: Annotated[int, Field(ge=2, le=2**62)]
    last_batch: Literal["drop", "keep"]
    lr: Positive
    lr_final: Positive
    schedule: Literal["paper", "cosine"]
    momentum: Fraction
    weight_decay: Weight
    noise: Weight
    cuda_graphs: bool
    eval_batch: Count
    headline: Literal["validation", "last", "paper"]
    windows_gib: Weight
    teacher_cache: bool
    teacher_cache_gib: Weight
    teacher_cache_keep: bool
    checkpoint_every: Count
    early: Fraction


class Tracking(Section):
    """What MLflow keeps of a run."""

    experiment: Text
    maps_every: Count
    probe_per_class: Count
    register_: bool = Field(alias="register")


class Preflight(Section):
    """What share of doubtful images and rows the check before training accepts."""

    max_missing: Fraction
    max_background: Fraction
    max_duplicates: Fraction


class DetectDistill(Section):
    """How a detection teacher pulls its student."""

    method: Literal["none", "sp", "builtin"]
    teacher: Text
    gain: Weight
    dis: Weight
    levels: Annotated[list[Literal["P3", "P4", "P5"]], Once] = Field(min_length=1)
    mode: Literal["batch", "pooled", "object"]
    max_objects: Annotated[int, Field(ge=2)]


class DetectMaps(Section):
    """The fixed probe of the similarity maps of `detect`."""

    images: Annotated[int, Field(ge=2)]
    objects: Annotated[int, Field(ge=2)]
    every: Count


class Detect(Section):
    """One detection run; `train` takes every other ultralytics training argument and is checked against them."""

    data: Text
    annotations: dict[Literal["train", "val", "test"], str]
    model: Text
    epochs: Count
    batch: Count
    imgsz: Annotated[int, Field(ge=32, multiple_of=32)]
    device: Annotated[str, Field(pattern=r"^(auto|cpu|\d+(,\d+)*)$", coerce_numbers_to_str=True, strict=False)]
    workers: Annotated[int, Field(ge=0)]
    train: dict[str, Any]
    preflight: Preflight
    distill: DetectDistill
    maps: DetectMaps


class Reproduce(Section):
    """Which run to repeat, and what counts as the same."""

    run_id: Annotated[str, Field(min_length=1, coerce_numbers_to_str=True, strict=False)]
    trials: Count
    min_trials: Annotated[int, Field(ge=2)]
    first_step: Positive
    maps: Positive
    margin: Annotated[float, Field(gt=0, lt=1)]
    alpha: Annotated[float, Field(gt=0, lt=0.5)]


class OfficialFile(Section):
    """One published archive: where, how long [bytes], and what its bytes hash to (null = not known, not checked)."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    size: Count | None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None


class Coco(Section):
    """Where COCO comes from and how it becomes a YOLO data set."""

    source: Text
    images: Literal["hardlink", "copy"]
    segments: bool
    damaged_images: Literal["error", "drop"]
    files: dict[str, OfficialFile]


class YoloVersions(Section):
    """Which detectors `yolo-versions` lays side by side, and how they are timed."""

    models: dict[str, Annotated[float, Field(gt=0, lt=100)] | None] = Field(min_length=1)
    weights: dict[str, str]
    imgsz: Annotated[int, Field(ge=32, multiple_of=32)]
    rounds: Count


class Compare(Section):
    """Which runs are laid side by side."""

    runs: Annotated[str, Field(coerce_numbers_to_str=True, strict=False)]
    out: Annotated[str, Field(pattern=r"\.html$")]
    most: Count


class Robustness(Section):
    """Which runs are disturbed, how strongly, how often."""

    runs: Annotated[str, Field(coerce_numbers_to_str=True, strict=False)]
    draws: Count
    noise: list[Positive]
    gain: list[Positive]
    segments: list[Share]
    channels: list[Share]


class TableRow(Section):
    """One row of a table, or one for every combination of the values in `each`, filled in where `{name}` stands."""

    role: Literal["teacher", "student"] = "student"
    each: dict[str, list[Any]] = {}
    set: dict[str, Any] = {}
    published: str = ""


class TableDefinition(Section):
    """A grid of runs: rows x folds x trials over any settings. expects: what the prepared windows must have."""

    about: str
    expects: dict[Literal["classes", "length", "step", "subjects"], int] = {}
    set: dict[str, Any]
    folds: list[Annotated[int, Field(ge=0)]] | Literal["all"]
    trials: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    teacher_trials: Literal["first", "same"]
    without_folds: list[int] = []
    baseline: str = ""
    published: str = ""
    rows: dict[str, TableRow] = Field(min_length=1)


class Table(Section):
    """Which table is run, by whom, and where its report goes."""

    name: str
    executor: Literal["local", "ray"]
    workers: Count
    side_by_side: Annotated[int, Field(ge=0)]
    gpu_share: Fraction
    retries: Annotated[int, Field(ge=0)]
    folder: Text


class Settings(Section):
    """params.yaml after preset and overrides. Shelf sections stay trees: config.part types them."""

    preset: str
    dataset: str
    fold: Annotated[int, Field(ge=0)]
    run: Run
    datasets: dict[str, dict[str, Any]]
    views: dict[str, dict[str, Any]]
    prepare: Annotated[dict[str, dict[str, str]], AfterValidator(_named_after_parts)]
    networks: dict[str, dict[str, Any]]
    losses: dict[str, dict[str, Any]]
    weightings: dict[str, dict[str, Any]]
    teacher: Model
    student: Model
    distill: Distill
    train: Train
    tracking: Tracking
    reproduce: Reproduce
    coco: Coco
    detect: Detect
    yolo_versions: YoloVersions
    compare: Compare
    robustness: Robustness
    table: Table
    tables: dict[str, TableDefinition]
    presets: dict[str, dict[str, Any]]
