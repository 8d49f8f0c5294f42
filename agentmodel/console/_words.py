"""The words of the pages: English is the key, Korean stands here; a test compares them with the templates."""

from __future__ import annotations

from collections.abc import Callable

from agentmodel._korean import SHARED

__all__ = ["KOREAN", "LANGUAGES", "language_of", "translator"]

LANGUAGES = {"en": "English", "ko": "한국어"}

KOREAN = {
    **SHARED,
    # everywhere
    "Skip to content": "본문으로 건너뛰기",
    "Pages": "페이지",
    "Inbox": "검토함",
    "Sessions": "세션",
    "Decisions": "결정 이력",
    "Agents": "에이전트",
    "Plans": "계획",
    "Log in": "로그인",
    "Log out": "로그아웃",
    "Token": "토큰",
    "That token is not known.": "알 수 없는 토큰입니다.",
    "Too many attempts: wait a minute.": "시도가 너무 많습니다. 1분 뒤에 다시 시도하세요.",
    "Show": "보기",
    "succeeded": "성공",
    "failed": "실패",
    "unknown": "알 수 없음",
    "yes": "예",
    "no": "아니요",
    "any": "전체",
    # problems
    "Not shown": "표시할 수 없음",
    "There is no such thing here": "찾을 수 없습니다",
    "You may not see or do this": "이 내용을 보거나 실행할 권한이 없습니다",
    "Somebody was faster": "다른 사람이 먼저 처리했습니다",
    "This cannot be used": "사용할 수 없는 값입니다",
    "The request has no form that can be read": "요청에 읽을 수 있는 양식이 없습니다",
    "The form is too large": "양식이 너무 큽니다",
    "The form did not come from this console": "이 콘솔에서 보낸 양식이 아닙니다",
    "The form is from an earlier log-in: load its page again": "이전 로그인의 양식입니다. 페이지를 다시 불러오세요",
    "A store does not answer now: try again in a moment": "저장소가 응답하지 않습니다. 잠시 뒤에 다시 시도하세요",
    "To the first page": "첫 페이지로",
    # inbox
    "Open questions": "대기 중인 질문",
    "Queue": "대기열",
    "Nothing waits for you in this queue.": "이 대기열에는 대기 중인 질문이 없습니다.",
    "Nothing was changed.": "변경된 것이 없습니다.",
    "What you typed is kept below.": "입력한 내용은 아래에 그대로 있습니다.",
    "The questions have changed. Show them": "질문 목록이 바뀌었습니다. 보기",
    "Back to the inbox": "검토함으로",
    "expired": "만료됨",
    "%(n)s min left": "%(n)s분 남음",
    "%(n)s h left": "%(n)s시간 남음",
    "%(n)s days left": "%(n)s일 남음",
    "then it counts as approved": "이후 승인으로 처리",
    "then it counts as rejected": "이후 거절로 처리",
    "claimed by %(who)s": "%(who)s 님이 맡음",
    "by %(who)s": "%(who)s",
    "open": "대기 중",
    "claimed": "맡음",
    "approved": "승인됨",
    "approved with changes": "수정 후 승인됨",
    "rejected": "거절됨",
    "answered": "답변됨",
    "cancelled": "취소됨",
    "judged": "판정됨",
    "Approved.": "승인했습니다.",
    "Approved with changes.": "수정하여 승인했습니다.",
    "Rejected.": "거절했습니다.",
    "Answered.": "답변했습니다.",
    "Released.": "내려놓았습니다.",
    "Verdict stored.": "판정을 저장했습니다.",
    "The whole question": "질문 전체",
    "Why you are asked": "질문 이유",
    "Reason": "이유",
    "needed to reject": "거절할 때 필요함",
    "This is about a session of yours: another reviewer decides it.": "본인의 세션에 대한 질문입니다. 다른 검토자가 결정합니다.",
    "verdict": "판정",
    "Verdict": "판정",
    "correct": "맞음",
    "partly correct": "일부 맞음",
    "wrong": "틀림",
    "harmful": "해로움",
    "Outcome of the run": "실행 결과",
    "as the verdict says": "판정에 따름",
    "Give the verdict": "판정하기",
    "Proposed arguments": "제안된 인자",
    "It has characters that hide or reorder others:": "다른 글자를 숨기거나 순서를 바꾸는 문자가 있습니다:",
    "was proposed:": "제안값:",
    "not given": "없음",
    "Answer in place of the call": "호출 대신 돌려줄 답변",
    "Approve": "승인",
    "Save and approve": "수정하여 승인",
    "Reject": "거절",
    "Answer": "답변",
    "Claim for 15 minutes": "15분간 맡기",
    "Release": "내려놓기",
    "What is known of the tool": "도구에 대해 알려진 것",
    "%(ok)s of %(calls)s calls worked.": "호출 %(calls)s회 중 %(ok)s회 성공.",
    "It was not called yet.": "아직 호출되지 않았습니다.",
    "It is failing now.": "지금 장애 상태입니다.",
    "Earlier questions of this session about the tool": "이 세션에서 이 도구에 대한 이전 질문",
    "Session so far": "지금까지의 세션",
    "No call yet.": "아직 호출이 없습니다.",
    "Trail": "이력",
    "Keys": "단축키",
    "Next question": "다음 질문",
    "Question before": "이전 질문",
    "Open the question": "질문 열기",
    "To approve, then Enter": "승인으로 이동, 이어서 Enter",
    "To the reason; Ctrl+Enter rejects": "이유로 이동, Ctrl+Enter로 거절",
    "Edit the arguments; Ctrl+Enter saves": "인자 수정, Ctrl+Enter로 저장",
    "To claim, then Enter": "맡기로 이동, 이어서 Enter",
    "This help": "이 도움말",
    "Use single-key shortcuts": "한 글자 단축키 사용",
    "Close": "닫기",
    "What was decided about the tool before": "이 도구에 대한 이전 결정",
    "For this user": "이 사용자",
    "For other users": "다른 사용자",
    "All of them": "모두 보기",
    # decisions
    "Decided by": "결정한 사람",
    "Answer given": "답변 종류",
    "Decided in the last": "결정 시점",
    "Past decisions are read from the warehouse, and none is set: set AGENTMODEL_WAREHOUSE_URL.": "이전 결정은 웨어하우스에서 "
    "읽는데 설정되어 있지 않습니다. AGENTMODEL_WAREHOUSE_URL을 설정하세요.",
    "No decisions.": "결정이 없습니다.",
    # sessions
    "User": "사용자",
    "Text": "내용",
    "Agent": "에이전트",
    "Tool": "도구",
    "Category": "카테고리",
    "Outcome": "결과",
    "Begun in the last": "시작 시점",
    "any time": "전체 기간",
    "day": "하루",
    "week": "일주일",
    "30 days": "30일",
    "Sessions of several users are listed from the warehouse, and none is set: name a user, or set "
    "AGENTMODEL_WAREHOUSE_URL.": "여러 사용자의 세션은 웨어하우스에서 읽는데 설정되어 있지 않습니다. 사용자를 지정하거나 "
    "AGENTMODEL_WAREHOUSE_URL을 설정하세요.",
    "With what was recorded a moment ago.": "방금 기록된 내용까지 포함합니다.",
    "As of the last refresh of the warehouse.": "웨어하우스를 마지막으로 갱신한 시점 기준입니다.",
    "As of the last refresh of the warehouse; newer sessions are marked as new.": "웨어하우스를 마지막으로 갱신한 시점 기준이며, 이후의 "
    "세션은 새 항목으로 표시합니다.",
    "new": "새 항목",
    "No sessions.": "세션이 없습니다.",
    "calls: %(calls)s, failed: %(failed)s": "호출 %(calls)s회, 실패 %(failed)s회",
    "First page": "첫 페이지",
    "Next page": "다음 페이지",
    "Without filters": "필터 없이 보기",
    "More filters": "필터 더 보기",
    "Order": "순서",
    "newest first": "최신순",
    "oldest first": "오래된 순",
    # a session
    "began %(at)s": "시작 %(at)s",
    "ended %(at)s": "종료 %(at)s",
    "not ended": "진행 중",
    "as a person judged": "사람의 판정",
    "as it was reported from outside": "외부에서 알려 온 결과",
    "as it was recorded": "기록된 결과",
    "judged by its calls": "호출 결과로 판단",
    "nothing is known of how it went": "결과를 알 수 없음",
    "These calls failed, and no later call of the same tool made up for it:": "다음 호출이 실패했고, 같은 도구의 이후 호출로 "
    "만회되지 않았습니다:",
    "and %(n)s more": "외 %(n)s건",
    "No call is left that failed: what went wrong is not in the calls.": "실패로 남은 호출이 없습니다. 문제는 호출 밖에 있습니다.",
    "%(n)s of them made good": "그중 %(n)s회는 만회됨",
    "%(input)s tokens in, %(output)s out": "입력 %(input)s, 출력 %(output)s 토큰",
    "cost: %(cost)s, of %(known)s of %(calls)s calls": "비용: %(cost)s (호출 %(calls)s회 중 %(known)s회)",
    "cost: unknown": "비용: 알 수 없음",
    "This session is long: a part of its steps is shown, and judged by itself.": "긴 세션입니다. 일부 단계만 표시하고 그 "
    "부분만으로 판단합니다.",
    "Valkey does not answer: the newest records may be missing.": "Valkey가 응답하지 않아 최신 기록이 빠졌을 수 있습니다.",
    "Plan and what was done": "계획과 실행",
    "Plan": "계획",
    "Done": "실행",
    "an agent without steps": "단계 없는 에이전트",
    "not done": "하지 않음",
    "not planned": "계획에 없음",
    "waited for a person": "사람을 기다림",
    "waited %(span)s": "대기 %(span)s",
    "Called with": "호출한 인자",
    "Timeline": "타임라인",
    "Calls": "호출",
    "attempt %(n)s": "시도 %(n)s",
    "At": "시각",
    "Arguments": "인자",
    "Error": "오류",
    "Result": "결과값",
    "Tokens": "토큰",
    "Questions to people": "사람에게 한 질문",
    "More steps": "다음 단계",
    "ok": "성공",
    "from the cache": "캐시",
    "blocked": "차단됨",
    "interrupted": "중단됨",
    "unknown tool": "알 수 없는 도구",
    # agents
    "Domain": "도메인",
    "No agents.": "에이전트가 없습니다.",
    "Best first, as of the last publish. The bar is where the success rate lies with a probability of 90 %%; the dot is "
    "what is expected.": "마지막 게시 기준, 좋은 순서입니다. 막대는 성공률이 90 %% 확률로 있는 구간이고 점은 기대값입니다.",
    "Runs": "실행",
    "Succeeded": "성공",
    "Success rate, 0 to 100 %%": "성공률, 0–100 %%",
    "Between": "구간",
    "Score": "점수",
    "Last run": "마지막 실행",
    "no run yet": "아직 실행 없음",
    "Tools that are failing now": "지금 장애 상태인 도구",
    "None.": "없습니다.",
    "failing": "장애",
    "on trial": "시험 중",
    "working": "정상",
    "since %(at)s": "%(at)s부터",
    "failing for %(n)s users": "사용자 %(n)s명에게 장애",
    "Saved.": "저장했습니다.",
    "%(ok)s of %(runs)s runs succeeded; the next one does with %(mean)s (%(low)s to %(high)s).": "실행 %(runs)s회 중 %(ok)s회 "
    "성공. 다음 실행의 기대 성공률은 %(mean)s (%(low)s–%(high)s)입니다.",
    "Runs of each week": "주별 실행",
    "Tools": "도구",
    "a person approves each call": "호출마다 사람이 승인",
    "read-only: its results may be cached": "읽기 전용: 결과를 캐시할 수 있음",
    "last error": "마지막 오류",
    "Edit": "편집",
    "Description": "설명",
    "A person approves each call": "호출마다 사람이 승인",
    "It only reads: its results may be cached": "읽기 전용: 결과를 캐시할 수 있음",
    "Save": "저장",
    "Calls of each week": "주별 호출",
    # charts of weeks
    "%(weeks)s weeks: %(good)s succeeded, %(bad)s failed": "%(weeks)s주: 성공 %(good)s, 실패 %(bad)s",
    "%(day)s: %(good)s succeeded, %(bad)s failed": "%(day)s 주: 성공 %(good)s, 실패 %(bad)s",
    "When it was failing": "장애가 있었던 기간",
    "Computed from its newest calls (%(n)s), as of the last refresh of the warehouse.": "가장 최근 호출 %(n)s회로 계산했습니다. "
    "웨어하우스를 마지막으로 갱신한 시점 기준입니다.",
    "Never marked as failing in its newest calls (%(n)s), as of the last refresh of the warehouse.": "가장 최근 호출 %(n)s회에서 "
    "장애로 판정된 적이 없습니다. 웨어하우스를 마지막으로 갱신한 시점 기준입니다.",
    # effect
    "Effect": "효과",
    "The effect is measured in the warehouse, and none is set: set AGENTMODEL_WAREHOUSE_URL.": "효과는 웨어하우스에서 측정하는데 "
    "설정되어 있지 않습니다. AGENTMODEL_WAREHOUSE_URL을 설정하세요.",
    "With a plan and without": "계획이 있을 때와 없을 때",
    "Runs with / without": "실행 수: 있음 / 없음",
    "Change of success, −100 to +100 points": "성공률 변화, −100–+100포인트",
    "Calls with / without": "호출: 있음 / 없음",
    "Tokens with / without": "토큰: 있음 / 없음",
    "Seconds with / without": "초: 있음 / 없음",
    "Cost with / without": "비용: 있음 / 없음",
    "all domains": "모든 도메인",
    "all": "전체",
    "none": "없음",
    "plans are stopped": "계획 중지됨",
    "too few runs yet": "아직 실행이 부족함",
    "Saved by cached answers": "캐시 응답으로 아낀 것",
    "No call was answered from the cache yet.": "아직 캐시로 응답한 호출이 없습니다.",
    "%(calls)s calls were not made, which had taken %(seconds)s s and %(tokens)s tokens.": "호출 %(calls)s회를 하지 않아 "
    "%(seconds)s초와 토큰 %(tokens)s개를 아꼈습니다.",
    "Calls not made": "하지 않은 호출",
    "Seconds": "초",
    "Cost": "비용",
    "of %(known)s of %(calls)s calls": "호출 %(calls)s회 중 %(known)s회",
    "What models cost": "모델 비용",
    "No call has told its tokens yet.": "토큰이 기록된 호출이 아직 없습니다.",
    "By the prices as of the last refresh. A call without a known model and price is unknown, not free.": "마지막 갱신 시점의 "
    "가격 기준입니다. 모델이나 가격을 모르는 호출은 무료가 아니라 알 수 없음으로 표시합니다.",
    "Model": "모델",
    "Tokens in": "입력 토큰",
    "Tokens out": "출력 토큰",
    "not told": "기록 없음",
    "Which tools fail": "실패하는 도구",
    "Tokens of each tool": "도구별 토큰",
    "read by the model": "모델이 읽은 토큰",
    "written by it": "모델이 쓴 토큰",
    "Which steps, for whom": "누구에게 어떤 단계가 통하나",
    "Score of the recommended sequences of tools, the best %(n)s by user and category.": "추천하는 도구 순서의 점수: 사용자와 "
    "카테고리별 상위 %(n)s개.",
    "Where failed runs went wrong": "실패한 실행이 잘못된 곳",
    "Failed runs by domain and category, each compared with the successes of its user and category.": "실패한 실행 수를 도메인과 "
    "카테고리별로 표시합니다. 각 실행을 같은 사용자와 카테고리의 성공한 실행과 비교합니다.",
    "This history has too many calls to compare its runs on a page. `agentmodel errors --runs` and `agentmodel report` show "
    "it.": "호출이 많아 페이지에서 실행을 비교하지 않습니다. `agentmodel errors --runs`와 `agentmodel report`로 볼 수 있습니다.",
    "How long history is kept": "이력 보관 기간",
    "Sessions whose sequence of tools scores at least %(score)s are kept for %(high)s days, all others for %(low)s. What they "
    "add to the statistics stays.": "도구 순서의 점수가 %(score)s 이상인 세션은 %(high)s일, 나머지는 %(low)s일 보관합니다. 통계에 반영된 "
    "내용은 남습니다.",
    # plans
    "What would be suggested for a request, and why. The plan is logged as a suggestion.": "요청에 무엇을, 왜 제안하는지 "
    "보여 줍니다. 계획은 제안으로 기록됩니다.",
    "Request": "요청",
    "found by the request": "요청으로 찾기",
    "What is suggested": "제안",
    "Nothing is known for this request.": "이 요청에 대해 알려진 것이 없습니다.",
    "%(ok)s of %(runs)s runs succeeded": "실행 %(runs)s회 중 %(ok)s회 성공",
    "Why": "이유",
    "What to avoid": "피할 것",
    "What else could be done": "다른 방법",
    "Domains that fit the request": "요청에 맞는 도메인",
    "Text for a model": "모델에 줄 글",
}


def translator(language: str) -> tuple[Callable[[str], str], Callable[[str, str, int], str]]:
    """Return gettext and ngettext of a language; a message that it lacks is shown in English."""
    words = KOREAN if language == "ko" else {}

    def gettext(message: str) -> str:
        return words.get(message, message)

    def ngettext(single: str, plural: str, number: int) -> str:
        return gettext(single if number == 1 else plural)

    return gettext, ngettext


def language_of(chosen: str, accepted: str) -> str:
    """Return the first of our languages that is asked for.

    >>> language_of("", "fr, ko-KR;q=0.8, en;q=0.5"), language_of("xx", "")
    ('ko', 'en')
    """
    for part in [chosen, *accepted.split(",")]:
        code = part.split(";")[0].strip()[:2].lower()
        if code in LANGUAGES:
            return code
    return "en"
