"""The Korean words of what both the commands and the console show: English is the key."""

from __future__ import annotations

from typing import Final

__all__ = ["SHARED"]

SHARED: Final = {
    # what plans change: `Impact.texts`
    "No session whose plan was withheld has ended, so it cannot be said what plans change: set AGENTMODEL_HOLDOUT, such "
    "as 0.1, and give each session its plan.": (
        "계획을 주지 않은 세션 가운데 끝난 것이 없어 계획이 무엇을 바꾸는지 말할 수 없습니다. AGENTMODEL_HOLDOUT을 0.1처럼 "
        "설정하고 세션마다 계획을 넘기세요."
    ),
    "No session whose plan was withheld has an outcome yet, so it cannot be said what plans change.": (
        "계획을 주지 않은 세션의 결과가 아직 없어 계획이 무엇을 바꾸는지 말할 수 없습니다."
    ),
    "In {domain}:": "{domain}:",
    "Sessions with a plan: {given}, without: {withheld}. At least {least} of each are needed before anything is "
    "said, about {more} sessions more.": (
        "계획이 있던 세션 {given}개, 없던 세션 {withheld}개. 각각 {least}개 이상, 세션 {more}개쯤이 더 필요합니다."
    ),
    "With a plan {given} of 100 requests succeed, without one {withheld}; the difference lies between {low} and {high} "
    "points: plans help.": (
        "계획이 있으면 100건 중 {given}건, 없으면 {withheld}건이 성공하고 차이는 {low}~{high}점입니다. 계획이 도움이 됩니다."
    ),
    "With a plan {given} of 100 requests succeed, without one {withheld}; the difference lies between {low} and {high} "
    "points: plans do harm.": (
        "계획이 있으면 100건 중 {given}건, 없으면 {withheld}건이 성공하고 차이는 {low}~{high}점입니다. 계획이 해롭습니다."
    ),
    "With a plan {given} of 100 requests succeed, without one {withheld}; the difference lies between {low} and {high} "
    "points, so no effect is shown yet;": (
        "계획이 있으면 100건 중 {given}건, 없으면 {withheld}건이 성공하고 차이는 {low}~{high}점이라 아직 효과가 보이지 않습니다."
    ),
    "one of {points} points is found after about {runs} sessions in half of all installations.": (
        "{points}점의 차이는 설치의 절반에서 세션 {runs}개쯤 뒤에 알 수 있습니다."
    ),
    "You may look as often as you like: in at most {errors} of 100 installations without any effect would this ever be "
    "said.": "몇 번을 보아도 됩니다. 효과가 없는 설치 100곳 중 이렇게 말하는 곳은 많아야 {errors}곳입니다.",
    # which step of a failed run did it: `WrongStep.answer`
    "unexpected write": "예상하지 못한 쓰기",
    "missing write": "빠진 쓰기",
    "error": "오류",
}
