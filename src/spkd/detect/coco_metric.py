"""COCO's own metric of a model's detections, by faster-coco-eval on the annotations JSON, beside ultralytics' own.

ultralytics measures on the converted labels, without crowd regions; COCO's protocol ignores detections inside crowds
and averages over area ranges. Class index i is the i-th category of the JSON by id, as the converter writes it.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster

from spkd.detect import match
from spkd.errors import SpkdError

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100")
NOWHERE = [-1e6, -1e6, 1.0, 1.0]


def measure(annotations: Path, images: Sequence[str], detections: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """{"AP", "AP50", "AP75", "AP_small", ...} in [0, 1]; -1 where an area range holds no object.

    images: those that were validated, with their folders; one without detections counts as one where nothing was
    found, other images of the JSON do not count. detections: file_name (one of images), index (class), bbox [x, y,
    width, height in pixels of the original image], score. Raises SpkdError where an image is not in the JSON.
    """
    tree = json.loads(annotations.read_text("utf-8"))
    ids = sorted(c["id"] for c in tree["categories"])
    rows = dict(zip(images, match.rows(images, [i["file_name"] for i in tree["images"]]), strict=True))
    if missing := next((image for image, row in rows.items() if row < 0), None):
        raise SpkdError(annotations, "the JSON of the validated images", f"no image {missing!r} in it",
                        "set detect.annotations.val to this split's JSON, or to nothing")  # fmt: skip
    id_of = {image: tree["images"][row]["id"] for image, row in rows.items()}
    found = []
    for one in detections:
        image_id, category_id = id_of[one["file_name"]], ids[one["index"]]
        found.append({"image_id": image_id, "category_id": category_id, "bbox": one["bbox"], "score": one["score"]})
    if not found:  # the metric takes no empty list: one that no object can match says the same
        found = [{"image_id": id_of[images[0]], "category_id": ids[0], "bbox": NOWHERE, "score": 0.0}]
    for number, annotation in enumerate(tree["annotations"], start=1):
        annotation["id"] = number  # from 1: the metric takes an object of id 0 for one that nothing matched
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    with redirect_stdout(io.StringIO()):
        truth = COCO(tree)
        evaluation = COCOeval_faster(truth, truth.loadRes(found), iouType="bbox", print_function=lambda *_: None)
        evaluation.params.imgIds = sorted(id_of.values())
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(NAMES, evaluation.stats[: len(NAMES)], strict=True)}
