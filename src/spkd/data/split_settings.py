"""Types of a data set's `split`, which subjects test, and `scaling`. Values are in params.yaml.

Kept apart from splits.py and scaling.py so that readers need not depend on them.
"""

from typing import Annotated, Literal

from pydantic import Field

from spkd.config import Section

Share = Annotated[float, Field(gt=0, lt=1)]
# 0 = all training subjects train, as in the published protocol; no epoch can then be chosen on validation subjects.
ValidationSubjects = Annotated[int, Field(ge=0)]


class LeaveOneSubjectOut(Section):
    """Fold k tests on subject k."""

    rule: Literal["leave_one_subject_out"]
    validation_subjects: ValidationSubjects


class SubjectFractions(Section):
    """Fold k is the k-th random draw of test and training subjects."""

    rule: Literal["subject_fractions"]
    train_fraction: Share
    test_fraction: Share
    validation_subjects: ValidationSubjects


SplitSettings = Annotated[LeaveOneSubjectOut | SubjectFractions, Field(discriminator="rule")]
Scaling = Literal["training", "paper", "subject"]
