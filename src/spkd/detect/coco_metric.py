"""COCO's own metric of a model's detections, by faster-coco-eval on the annotations JSON, beside ultralytics' own.

ultralytics measures on the converted labels, without crowd regions; COCO's protocol ignores detections inside crowds
and averages over area ranges. Class index i is the i-th category of the JSON by id, as the converter writes it.
"""

import io
import json
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster

from spkd.detect import match
from spkd.errors import SpkdError

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100")


def measure(annotations: Path, detections: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """{"AP", "AP50", "AP75", "AP_small", ...} in [0, 1]; -1 where an area range holds no object.

    detections: file_name with its folders, index (class), bbox [x, y, width, height in pixels of the original image],
    score. Images of the JSON that are not among the detections count as images where nothing was found. Raises
    SpkdError where a detection's image is not in the JSON.
    """
    tree = json.loads(annotations.read_text("utf-8"))
    ids = sorted(c["id"] for c in tree["categories"])
    found, detections = [], list(detections)
    rows = match.rows((one["file_name"] for one in detections), [i["file_name"] for i in tree["images"]])
    for one, row in zip(detections, rows, strict=True):
        if row < 0:
            raise SpkdError(annotations, "the JSON of the validated images", f"no image {one['file_name']!r} in it",
                            "set detect.annotations.val to this split's JSON, or to nothing")  # fmt: skip
        image_id, category_id = tree["images"][row]["id"], ids[one["index"]]
        found.append({"image_id": image_id, "category_id": category_id, "bbox": one["bbox"], "score": one["score"]})
    if not found:
        return dict.fromkeys(NAMES, 0.0)
    for number, annotation in enumerate(tree["annotations"], start=1):
        annotation["id"] = number  # from 1: the metric takes an object of id 0 for one that nothing matched
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    with redirect_stdout(io.StringIO()):
        truth = COCO(tree)
        evaluation = COCOeval_faster(truth, truth.loadRes(found), iouType="bbox", print_function=lambda *_: None)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(NAMES, evaluation.stats[: len(NAMES)], strict=True)}
