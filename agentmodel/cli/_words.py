"""The words of tables, plans and reviews in Korean: English is the key; a test compares them with the commands."""

from __future__ import annotations

from agentmodel._korean import SHARED

__all__ = ["KOREAN"]

KOREAN = {
    **SHARED,
    # cells and columns
    "yes": "예",
    "no": "아니요",
    "new": "새 세션",
    "{part} of {whole}": "{whole} 중 {part}",
    "working": "정상",
    "failing since {since}": "{since}부터 고장",
    "tried again, failing since {since}": "다시 시험 중, {since}부터 고장",
    "{state}, failing for {users} user": "{state}, 사용자 {users}명에게만 고장",
    "{state}, failing for {users} users": "{state}, 사용자 {users}명에게만 고장",
    "unknown": "알 수 없음",
    "succeeded": "성공",
    "failed": "실패",
    "address": "주소",
    "agent": "에이전트",
    "agent id": "에이전트 id",
    "agents": "에이전트",
    "amount": "양",
    "among first three": "처음 셋 안에 맞음",
    "answer": "답",
    "answered": "캐시가 답함",
    "answered wrongly": "틀리게 답함",
    "area under ROC": "ROC 아래 면적",
    "arguments": "인자",
    "asked before a write, and failed": "쓰기 전에 물었고 실패함",
    "at best": "최선",
    "attempt": "시도",
    "AUC": "AUC",
    "began (UTC)": "시작 (UTC)",
    "by": "누가",
    "call": "호출",
    "called at (UTC)": "호출 시각 (UTC)",
    "calls": "호출",
    "calls not made": "아낀 호출",
    "cases": "사례",
    "cost": "비용",
    "cases with a choice": "선택이 있던 사례",
    "categories": "카테고리",
    "category": "카테고리",
    "change": "변화",
    "chose a best agent": "가장 좋은 에이전트를 고름",
    "compared": "비교함",
    "difference": "차이",
    "different later requests": "서로 다른 나중 요청",
    "domain": "도메인",
    "doubly robust": "이중 강건 추정",
    "earlier ones": "앞선 리비전",
    "edit distance": "편집 거리",
    "effective cases": "유효 사례",
    "error type": "오류 종류",
    "event": "일어난 일",
    "evidence (90 %)": "근거 (90 %)",
    "evidence, 90 %": "evidence, 90 %",
    "executions": "실행",
    "actual success rate": "실제 성공률",
    "failed at (UTC)": "실패 시각 (UTC)",
    "failed calls": "실패한 호출",
    "failed runs marked": "표시된 실패 실행",
    "failure rate": "실패율",
    "false alarms": "잘못된 경보",
    "first guess right": "첫 예측이 맞음",
    "found by": "찾은 방법",
    "health": "지금 상태",
    "id": "id",
    "in sessions": "세션 수",
    "its successes": "이 리비전의 성공",
    "last (UTC)": "마지막 (UTC)",
    "last error message": "마지막 오류",
    "last failure (UTC)": "마지막 실패 (UTC)",
    "last run": "마지막 실행",
    "last session began (UTC)": "마지막 세션 시작 (UTC)",
    "last used": "마지막 사용",
    "later runs": "나중 실행",
    "likelihood": "가능성",
    "lowest 15 % that failed": "하위 15 % 중 실패",
    "marked": "표시됨",
    "made of": "계산",
    "mean prediction": "예측 평균",
    "metered calls": "토큰을 아는 호출",
    "name": "이름",
    "not routed": "고르지 않음",
    "note": "메모",
    "number": "개수",
    "off by, on average": "평균 오차",
    "oracle, 90 %": "oracle, 90 %",
    "outcome": "결과",
    "PK": "PK",
    "plan for": "계획 대상",
    "plans": "계획",
    "predicted between": "예측 범위",
    "predictor": "예측 방법",
    "priced calls": "가격을 아는 호출",
    "process": "프로세스",
    "rank": "순위",
    "ranking": "순위 방식",
    "reason": "이유",
    "recommended": "추천",
    "regret": "후회",
    "repeated reads": "되풀이된 읽기",
    "request": "요청",
    "result": "결과 글",
    "revision": "리비전",
    "routed right": "맞게 고름",
    "routed wrong": "틀리게 고름",
    "rows": "행",
    "runs": "실행",
    "runs per agent": "에이전트당 실행",
    "said at (UTC)": "알린 시각 (UTC)",
    "same first tool": "같은 첫 도구",
    "same tools": "같은 도구",
    "score": "점수",
    "seconds": "초",
    "session": "세션",
    "sessions": "세션",
    "share": "비율",
    "since the refresh": "refresh 이후",
    "SK": "SK",
    "SNIPS": "SNIPS",
    "source": "출처",
    "status": "상태",
    "status after": "다음 상태",
    "store": "저장소",
    "success": "성공률",
    "success rate": "성공률",
    "successes": "성공",
    "table": "테이블",
    "time (UTC)": "시각 (UTC)",
    "timed calls": "시간을 아는 호출",
    "tokens": "토큰",
    "took (ms)": "걸린 시간 (ms)",
    "tool": "도구",
    "tool sequence": "도구 순서",
    "unit": "단위",
    "until": "언제까지",
    "use and work": "사용과 일",
    "user": "사용자",
    "user id": "사용자 id",
    "value": "값",
    "way to choose": "고르는 방법",
    "what": "무엇",
    "what is known": "알려진 것",
    "where": "어디",
    "why": "이유",
    "with": "있음",
    "with a plan": "계획 있음",
    "with another result": "다른 결과",
    "without": "없음",
    "written now": "이번에 쓴 행",
    "90 % interval": "90 % 구간",
    # titles
    "{calls} calls a month": "한 달에 호출 {calls}번",
    "The export in {folder}": "{folder}에 내보낸 것",
    "Agents of {domain}, best first": "{domain}의 에이전트, 좋은 순서",
    "Answering repeated reads of a session from the cache": "한 세션에서 되풀이된 읽기에 캐시가 답하기",
    "Changed": "바뀐 것",
    "Choosing the agent": "에이전트 고르기",
    "Choosing the steps: plans compared with later runs that succeeded": "단계 고르기: 계획과 나중에 성공한 실행의 비교",
    "Dead letters": "데드 레터",
    "Domains that fit the request": "요청에 맞는 도메인",
    "Estimated success rate of other ways to choose the agent": "에이전트를 다르게 골랐을 때의 추정 성공률",
    "Failed tool calls by type of error": "오류 종류별 실패한 도구 호출",
    "Finding the domain of a request": "요청의 도메인 찾기",
    "How well predictions tell the runs that fail": "예측이 실패할 실행을 얼마나 잘 가려내는지",
    "Outcomes from outside, the most trusted source first": "외부에서 알린 결과, 믿을 만한 출처부터",
    "Plans for requests of a kind that was asked before": "전에 있던 종류의 요청에 대한 계획",
    "Predicted and actual success rates": "예측 성공률과 실제 성공률",
    "Predicting the next tool": "다음 도구 예측",
    "Published": "내보낸 것",
    "Regret in {domain}, if use and work were spread in a known way (simulated)": (
        "{domain}의 후회, 사용과 일이 알려진 대로 나뉘었을 때 (시뮬레이션)"
    ),
    "Removed": "지운 것",
    "Runs that look wrong: compared with earlier successes of their user and category": (
        "잘못되어 보이는 실행: 같은 사용자와 카테고리의 앞선 성공과 비교"
    ),
    "Saved by cached answers": "캐시가 아낀 것",
    "Sessions, newest first": "세션, 최신 순",
    "The stack of {folder}": "{folder}의 스택",
    "To change": "바꿀 것",
    "Tool calls of {session}, in order": "{session}의 도구 호출, 순서대로",
    "Tool sequences, each user's best first": "도구 순서, 사용자마다 좋은 순서",
    "Tools that failed": "실패한 도구",
    "Tools that failed (the first {shown} of {all})": "실패한 도구 ({all}개 중 처음 {shown}개)",
    "Users, the most recent first": "사용자, 최근 순",
    "Warehouse rebuilt as of {day}": "웨어하우스를 다시 만듦, {day} 기준",
    "Warehouse updated as of {day}": "웨어하우스를 갱신함, {day} 기준",
    "What each store holds": "저장소에 있는 것",
    "What happened": "일어난 일",
    "What remains": "남은 것",
    "Where failed runs went wrong": "실패한 실행이 잘못된 곳",
    "With a plan and without": "계획이 있을 때와 없을 때",
    # empty tables
    "No agent yet. Import calls with `agentmodel import`, or record calls by the name of their agent.": (
        "아직 에이전트가 없습니다. `agentmodel import`로 호출을 가져오거나, 에이전트 이름으로 호출을 기록하세요."
    ),
    "No call was answered from the cache yet, as of the last refresh.": (
        "마지막 refresh까지 캐시가 답한 호출이 없습니다."
    ),
    "No dead letter.": "데드 레터가 없습니다.",
    "No domain fits the request.": "요청에 맞는 도메인이 없습니다.",
    "No question waits in queue {queue}.": "대기열 {queue}에 기다리는 질문이 없습니다.",
    "No run failed.": "실패한 실행이 없습니다.",
    "No session. Record or import some, then run `agentmodel drain` and `agentmodel refresh`; or ask for more.": (
        "세션이 없습니다. 기록하거나 가져온 다음 `agentmodel drain`과 `agentmodel refresh`를 실행하세요. "
        "조건을 넓혀 볼 수도 있습니다."
    ),
    "No suggestion was followed to the end of a session yet. Pass the plan to `model.session(…, plan=plan)`.": (
        "세션 끝까지 따른 제안이 아직 없습니다. 계획을 `model.session(…, plan=plan)`에 넘기세요."
    ),
    "No tool call yet.": "아직 도구 호출이 없습니다.",
    "No tool failed.": "실패한 도구가 없습니다.",
    "No tool is known to be read-only: mark it in the catalogue, or name it by --read-only for trace files.": (
        "읽기만 하는 도구가 알려져 있지 않습니다. 카탈로그에 표시하거나, 트레이스 파일이면 --read-only로 이름을 주세요."
    ),
    "No tool sequence is recommended yet. `agentmodel patterns --all` lists all of them.": (
        "추천된 도구 순서가 아직 없습니다. `agentmodel patterns --all`은 모두 보여 줍니다."
    ),
    "No tool sequence yet. Record or import runs, then run `agentmodel drain` and `agentmodel refresh`.": (
        "아직 도구 순서가 없습니다. 기록하거나 가져온 다음 `agentmodel drain`과 `agentmodel refresh`를 실행하세요."
    ),
    "No user yet. Record or import sessions, then run `agentmodel drain` and `agentmodel refresh`.": (
        "아직 사용자가 없습니다. 세션을 기록하거나 가져온 다음 `agentmodel drain`과 `agentmodel refresh`를 실행하세요."
    ),
    "Nothing was left to remove.": "지울 것이 남아 있지 않았습니다.",
    "Nothing yet.": "아직 없습니다.",
    "Nothing.": "없습니다.",
    "The catalogue has no domain yet.": "카탈로그에 아직 도메인이 없습니다.",
    "The history has no calls to compare.": "이력에 비교할 호출이 없습니다.",
    "The history is too short to measure this.": "이것을 재기에는 이력이 너무 짧습니다.",
    # agents, tools, errors
    "{agent} has become worse: {note}": "{agent}이(가) 나빠졌습니다: {note}",
    "execution: what one agent did in one session. score: what the agents are ordered by, from the last publish.": (
        "실행: 한 세션에서 한 에이전트가 한 일. 점수: 에이전트의 순서를 정하는 수, 마지막 publish 기준."
    ),
    "revision: that of the newest execution; in score and evidence, what earlier ones did fades.": (
        "리비전: 가장 새로운 실행의 것. 점수와 근거에서 앞선 리비전은 점점 적게 셉니다."
    ),
    "evidence: estimated success rate, 0 to 1, with its 90 % interval; few executions make it wide.": (
        "근거: 추정 성공률(0~1)과 90 % 구간. 실행이 적으면 구간이 넓습니다."
    ),
    "{tool} of {agent} is failing since {since} UTC; it is tried again from {until} UTC": (
        "{agent}의 {tool}이(가) {since} UTC부터 실패하고 있습니다. {until} UTC부터 다시 시도합니다"
    ),
    "{tool} of {agent} is failing since {since} UTC; it may be tried again since {until} UTC": (
        "{agent}의 {tool}이(가) {since} UTC부터 실패했습니다. {until} UTC부터 다시 시도할 수 있습니다"
    ),
    "* Fewer than three agents have 20 later runs, so little is known of how good they are.": (
        "* 나중 실행이 20개 이상인 에이전트가 셋이 안 되어, 얼마나 좋은지 잘 알 수 없습니다."
    ),
    "Seconds, tokens and cost are those of the last equal call that was made; a call without one adds none.": (
        "초, 토큰, 비용은 실제로 실행된 마지막 같은 호출의 것입니다. 그런 호출이 없으면 더하지 않습니다."
    ),
    "Cost: unknown.": "비용: 알 수 없음.",
    "Cost: {cost}, of {priced} of {calls} calls; a call without a known model and price adds none.": (
        "비용: {cost}, 호출 {calls}번 중 {priced}번. 모델과 가격을 모르는 호출은 더하지 않습니다."
    ),
    "no type recorded": "종류가 기록되지 않음",
    # sessions
    "There may be more: add --cursor {cursor}": "더 있을 수 있습니다: --cursor {cursor}",
    "`agentmodel session ID` shows one; the beginning of its id is enough.": (
        "`agentmodel session ID`로 하나를 봅니다. id는 앞부분만 써도 됩니다."
    ),
    "began {at} UTC": "{at} UTC 시작",
    "ended {at} UTC": "{at} UTC 끝",
    "category {category}": "카테고리 {category}",
    "This run looks wrong: {note}.": "잘못된 실행으로 보임: {note}.",
    "Compared with earlier runs: {note}.": "이전 실행과 비교: {note}.",
    "Chance that it succeeded by that: {chance}.": "그에 따른 성공 가능성: {chance}.",
    "What went wrong, as far as the record shows: {wrong}.": "기록으로 본 잘못된 곳: {wrong}.",
    "Outcome: {outcome}.": "결과: {outcome}.",
    "Outcome: {outcome}, as a person judged.": "결과: {outcome}, 사람의 판정.",
    "Outcome: {outcome}, as it was reported from outside.": "결과: {outcome}, 외부에서 알려 옴.",
    "Outcome: {outcome}, as it was recorded.": "결과: {outcome}, 기록된 대로.",
    "Outcome: {outcome}, judged by its calls.": "결과: {outcome}, 호출로 판단.",
    " with {error}": " ({error})",
    "Failed, and not made good later: {tool} in {step}{error}": "실패했고 나중에도 해결되지 않음: {step}의 {tool}{error}",
    "Not approved{by} ({status})": "승인되지 않음{by} ({status})",
    # plans
    "Plan for {user}, {request}: {agent} [source: {source}]": "{user}의 계획, {request}: {agent} [출처: {source}]",
    "no agent is known": "알려진 에이전트 없음",
    "use {agent} ({id})": "{agent} ({id}) 사용",
    ", {share} of {calls} calls succeeded": ", 호출 {calls}번 중 {share} 성공",
    "   caution: {reason}": "   주의: {reason}",
    "   if it fails, use {other}": "   실패하면 {other} 사용",
    "expected success rate (and 90 % interval): {rate}": "예상 성공률(90 % 구간): {rate}",
    "{mean} ({low} to {high})": "{mean} ({low}~{high})",
    "why: {reason}": "이유: {reason}",
    "avoid: {tool} of {agent}: {reason}": "피할 것: {agent}의 {tool}: {reason}",
    "alternative: {agent} ({id}){tools}: {rate} [source: {source}]": "대안: {agent} ({id}){tools}: {rate} [출처: {source}]",
    "ask a person first: {reason}": "먼저 사람에게 물을 것: {reason}",
    "own mapping": "자신의 매핑",
    "own similar request": "자신의 비슷한 요청",
    "similar users": "비슷한 사용자",
    "similar requests of all users": "모든 사용자의 비슷한 요청",
    "best agent of the domain": "도메인의 가장 좋은 에이전트",
    "agent of the domain": "도메인의 에이전트",
    "nothing known": "알려진 것 없음",
    "withheld": "일부러 주지 않음",
    # reviews
    "pending": "대기 중",
    "claimed": "맡음",
    "approved": "승인됨",
    "edited": "고쳐서 승인됨",
    "rejected": "거부됨",
    "responded": "글로 답함",
    "expired": "만료됨",
    "cancelled": "취소됨",
    "completed": "판정됨",
    "approve": "승인",
    "edit": "고쳐서 승인",
    "reject": "거부",
    "respond": "글로 답하기",
    "correct": "맞음",
    "partly": "일부 맞음",
    "wrong": "틀림",
    "harmful": "해로움",
    " by {name}": " ({name})",
    "{verdict}": "판정 {verdict}",
    "{verdict}, the run succeeded": "판정 {verdict}, 실행은 성공",
    "{verdict}, the run failed": "판정 {verdict}, 실행은 실패",
    "claimed by {name} until {until} UTC": "{name}이(가) {until} UTC까지 맡음",
    "open until {until} UTC; without an answer it counts as {answer}": "{until} UTC까지 열려 있음. 답이 없으면 {answer}",
    "expired: nobody answered in time, so it counts as {answer}": "만료됨: 제때 답이 없어 {answer}(으)로 봅니다",
    "Questions expired: {expired}, escalated: {escalated}, verdicts finished: {applied}.": (
        "만료된 질문: {expired}, 올려 보낸 질문: {escalated}, 마친 판정: {applied}."
    ),
    "a run that has ended": "끝난 실행",
    "a step": "단계",
    "no agent": "에이전트 없음",
    "{tool} of {agent}": "{agent}의 {tool}",
    "{about} with {arguments}": "{about}, 인자 {arguments}",
    "status: {status}": "상태: {status}",
    "arguments: {arguments}": "인자: {arguments}",
    "arguments to call with instead: {arguments}": "대신 쓸 인자: {arguments}",
    "Decisions, newest first": "결정, 최신순",
    "No decision. Run `agentmodel refresh`; or ask for more.": "결정이 없습니다. `agentmodel refresh`를 실행하거나 조건을 넓히세요.",
    "decided (UTC)": "결정 시각 (UTC)",
    "question": "질문 내용",
    "review": "질문",
    "about": "대상",
    "step": "단계 id",
    "why it is asked": "묻는 이유",
    "queue": "대기열",
    "possible answers": "가능한 답",
    "reason of the answer": "답의 이유",
    "text of the answer": "답의 글",
    "arguments (SHA-256)": "인자 (SHA-256)",
    # what a command did
    "none": "없음",
    "Items checked: {checked}, repaired: {repaired}. Problems left: {left}.": (
        "검사한 아이템: {checked}, 고친 것: {repaired}. 남은 문제: {left}."
    ),
    "Items checked: {checked}. Problems left: {left}.": "검사한 아이템: {checked}. 남은 문제: {left}.",
    "Run `agentmodel check --fix` to repair the items where that is safe.": (
        "안전한 것은 `agentmodel check --fix`로 고칠 수 있습니다."
    ),
    "The console is at {address} . Ctrl-C stops it.": "콘솔: {address} . Ctrl-C로 멈춥니다.",
    "Stopped.": "멈추었습니다.",
    "The data is kept in {keep}. Run `agentmodel up --dir {folder}`; then, in another terminal, "
    "`agentmodel --dir {folder} agents` or any other command works on it.": (
        "데이터를 {keep}에 남겼습니다. `agentmodel up --dir {folder}`를 실행하면, 다른 터미널에서 "
        "`agentmodel --dir {folder} agents` 같은 명령을 쓸 수 있습니다."
    ),
    "The data is deleted. Run `agentmodel demo --keep DIR` to keep it for the other commands.": (
        "데이터를 지웠습니다. 다른 명령에서도 쓰려면 `agentmodel demo --keep DIR`로 남기세요."
    ),
    "Recorded {sessions} simulated sessions with {calls} tool calls: {failures} calls failed, and {retries} calls were "
    "retries (seed {seed}).": (
        "시뮬레이션한 세션 {sessions}개와 도구 호출 {calls}번을 기록했습니다. 실패 {failures}번, 재시도 {retries}번 "
        "(시드 {seed})."
    ),
    "The API key among the arguments of the first call was masked: {arguments}": (
        "첫 호출의 인자에 있던 API 키를 가렸습니다: {arguments}"
    ),
    "Computed and published the scores as of {day}, today in UTC.": (
        "오늘(UTC) {day} 기준으로 점수를 계산해서 내보냈습니다."
    ),
    "Computed and published the scores as of {day}, the latest time in the traces.": (
        "트레이스의 마지막 시각 {day} 기준으로 점수를 계산해서 내보냈습니다."
    ),
    "Wrote {files} into {folder}.": "{folder}에 {files}을(를) 썼습니다.",
    "Wrote {files} into {folder}, of the table {name}.": "{folder}에 테이블 {name}의 {files}을(를) 썼습니다.",
    "Wrote {number} files into {folder}.": "{folder}에 파일 {number}개를 썼습니다.",
    "The files in {folder} are up to date.": "{folder}의 파일은 최신입니다.",
    "Wrote {file} ({size} kB), as of {day}. Open it in a browser.": (
        "{file}을(를) 썼습니다({size} kB, {day} 기준). 브라우저로 여세요."
    ),
    "Sum of {units} units with a price, as of {day}: {total}.": "가격이 있는 단위 {units}개의 합, {day} 기준: {total}.",
    "Erased {user}: everything that was recorded before {at} UTC.": "{user}: {at} UTC 전에 기록된 것을 모두 지웠습니다.",
    "It has nothing, because there was no refresh yet. Files removed: {removed}.": (
        "아직 refresh가 없어서 내보낸 것이 없습니다. 지운 파일: {removed}."
    ),
    "It has what the last refresh had read, until {seen} UTC. Files removed: {removed}.": (
        "마지막 refresh가 {seen} UTC까지 읽은 것입니다. 지운 파일: {removed}."
    ),
    "Entries written to the table: {written}, superseded by a newer version: {stale}, put aside as dead letters: {dead}, "
    "left in the journal: {left}.": (
        "테이블에 쓴 기록: {written}, 새 버전이 있던 것: {stale}, 데드 레터가 된 것: {dead}, 저널에 남은 것: {left}."
    ),
    "Run `agentmodel dead list` to see why they could not be written.": (
        "쓰지 못한 이유는 `agentmodel dead list`로 볼 수 있습니다."
    ),
    "Dead letter {letter} is deleted.": "데드 레터 {letter}을(를) 지웠습니다.",
    "Dead letter {letter} is in the journal again, for the next drain.": (
        "데드 레터 {letter}을(를) 저널에 다시 넣었습니다. 다음 drain이 옮깁니다."
    ),
    "No domain yet. Run `agentmodel import FILE…` with trace files, or `agentmodel seed` for the demo's.": (
        "아직 도메인이 없습니다. `agentmodel import FILE…`로 트레이스를 가져오거나 `agentmodel seed`로 데모의 것을 넣으세요."
    ),
    "Ready. Run other commands in another terminal. Ctrl-C drains the journal, saves the tables and stops.": (
        "준비되었습니다. 다른 명령은 다른 터미널에서 실행하세요. Ctrl-C를 누르면 저널을 옮기고 테이블을 저장한 다음 멈춥니다."
    ),
    "Upgraded the data of an earlier version. A backup from before is in {path} .": (
        "이전 버전의 데이터를 이 버전에 맞게 고쳤습니다. 고치기 전의 백업: {path} ."
    ),
    "{at} UTC: learned from {changed} new or changed items; updated agents: {agents}, tools: {tools}, plans of "
    "users: {plans}": (
        "{at} UTC: 새로 생기거나 바뀐 아이템 {changed}개에서 배웠습니다. 갱신한 에이전트: {agents}, 도구: {tools}, "
        "사용자의 계획: {plans}"
    ),
    "{at} UTC: learning failed and is tried again in {pause} seconds: {error}": (
        "{at} UTC: 배우지 못했습니다. {pause}초 뒤에 다시 합니다: {error}"
    ),
    "Wrote {path}: {files} files of the stack, {size} MB before compression.": (
        "{path}을(를) 만들었습니다. 스택의 파일 {files}개, 압축 전 {size} MB."
    ),
    "Restored the stack of {at} UTC into {folder}: {files} files.": (
        "{at} UTC의 스택을 {folder}에 되돌려 놓았습니다. 파일 {files}개."
    ),
    "Whoever was erased after that time is back: run `agentmodel up`, and erase them again.": (
        "그 뒤에 삭제한 사람의 데이터도 되돌아왔습니다. `agentmodel up`을 실행하고 다시 삭제하세요."
    ),
    "Stopping: draining the journal.": "멈추는 중: 저널을 테이블로 옮기고 있습니다.",
    "Created table {name}.": "테이블 {name}을(를) 만들었습니다.",
    "Table {name} exists already; nothing was changed.": "테이블 {name}이(가) 이미 있습니다. 아무것도 바꾸지 않았습니다.",
    "Switched its stream on.": "스트림을 켰습니다.",
    "Its stream was on already.": "스트림이 이미 켜져 있었습니다.",
    "It is protected now.": "삭제 방지와 시점 복구를 켰습니다.",
    "It was protected already.": "삭제 방지와 시점 복구가 이미 켜져 있었습니다.",
    "Table {name} is set up as it should be.": "테이블 {name}은(는) 설계대로입니다.",
    "Nothing was added: the demo's entries exist already.": "더한 것이 없습니다. 데모의 것이 이미 있습니다.",
    "Added to the catalogue: {what}.": "카탈로그에 넣은 것: {what}.",
    "Imported {lines} tool calls of {sessions} sessions.": "세션 {sessions}개의 도구 호출 {lines}번을 가져왔습니다.",
    "{repeated} of them were imported before and are not stored twice.": (
        "그중 {repeated}번은 전에 가져온 것이라 다시 저장하지 않았습니다."
    ),
    "Recorded {outcomes} outcomes from outside.": "밖에서 알린 결과 {outcomes}개를 기록했습니다.",
    "Lines not imported: {number}.": "가져오지 못한 줄: {number}.",
    "Recorded that {session} succeeded, by {by}.": "{session}의 성공을 기록했습니다 ({by}).",
    "Recorded that {session} failed, by {by}.": "{session}의 실패를 기록했습니다 ({by}).",
    "Run `agentmodel refresh` to count it in the scores.": "점수에 반영하려면 `agentmodel refresh`를 실행하세요.",
    "Run `agentmodel refresh` to compute the scores.": "점수를 계산하려면 `agentmodel refresh`를 실행하세요.",
    "Run `agentmodel publish` to write the scores back to the table.": (
        "점수를 테이블에 쓰려면 `agentmodel publish`를 실행하세요."
    ),
    "Copied {items} items into the warehouse, {changed} of them new or changed; {expired} had expired by TTL, {erased} "
    "had been deleted.": (
        "아이템 {items}개를 웨어하우스로 옮겼습니다. 새것이거나 바뀐 것 {changed}, TTL로 만료된 것 {expired}, 지워진 것 {erased}."
    ),
    "Everything is up to date; nothing was changed.": "모두 최신입니다. 아무것도 바꾸지 않았습니다.",
    "Nothing was changed. Make a backup of what is listed, then run this command with --apply.": (
        "아무것도 바꾸지 않았습니다. 위의 것을 백업한 다음 --apply를 붙여 다시 실행하세요."
    ),
    # what was published
    "agents with a new score": "점수가 바뀐 에이전트",
    "tools with a new failure rate": "실패율이 바뀐 도구",
    "mappings (best tool sequence of a user and category) added or changed": "더해지거나 바뀐 매핑(사용자와 카테고리의 가장 좋은 도구 순서)",
    "domains whose ranking in Valkey was replaced": "Valkey의 순위를 바꾼 도메인",
    "items that were up to date already": "이미 최신이던 아이템",
    "items that a newer publish has written": "더 새로운 publish가 쓴 아이템",
    "agents, tools and domains of the history that are not in the catalogue": "이력에는 있지만 카탈로그에 없는 에이전트, 도구, 도메인",
    "mappings that are no longer recommended and expire sooner": "더는 추천하지 않아 일찍 만료되는 매핑",
    "sessions that are kept for a longer time, since their score is high": "점수가 높아 더 오래 두는 세션",
    "sessions that are kept for a shorter time, since their score fell": "점수가 내려가 더 짧게 두는 세션",
    "domains whose newest requests, which others are routed by, were replaced": "도메인을 고르는 데 쓰는 최근 요청을 바꾼 도메인",
    "domains with other counts of their runs, or other sequences of tools": "실행 수나 도구 순서가 바뀐 도메인",
    "domains in which no plans are given any more, since they did harm": "계획이 해로워 더는 주지 않는 도메인",
    "items that are damaged or would become too large": "손상되었거나 너무 커질 아이템",
    "agents whose present revision is worse than the ones before": "현재 리비전이 앞선 것보다 나쁜 에이전트",
    # what each store holds
    "not used": "쓰지 않음",
    "{name} is not set": "{name}이(가) 설정되지 않음",
    "journal: {what}": "저널: {what}",
    "entries not in the table yet": "아직 테이블에 없는 기록",
    "of these, taken by a drainer": "그중 드레이너가 가져간 것",
    "dead letters": "데드 레터",
    "age of the oldest entry (s)": "가장 오래된 기록의 나이 (초)",
    "durability of a recorded entry": "기록의 내구성",
    "state": "상태",
    "works": "정상",
    "does not answer": "응답하지 않음",
    "items": "아이템",
    "domains": "도메인",
    "tools": "도구",
    "users": "사용자",
    "processes of sessions": "세션의 프로세스",
    "tool calls": "도구 호출",
    "mappings of users": "사용자의 매핑",
    "mappings": "매핑",
    "questions to people, and outcomes": "사람에게 한 질문과 결과",
    "suggestions": "제안",
    "of agentmodel itself": "agentmodel 자신의 것",
    "rows of {table}": "{table}의 행",
    "{what} with results": "결과가 있는 {what}",
    # measuring
    "No run yet. Record or import runs, then run `agentmodel drain` and `agentmodel refresh`.": (
        "아직 실행이 없습니다. 기록하거나 가져온 다음 `agentmodel drain`과 `agentmodel refresh`를 실행하세요."
    ),
    "{runs} runs; the first {learned} ({share} of each domain) were learned from before the first prediction.": (
        "실행 {runs}개. 도메인마다 처음 {share}(모두 {learned}개)로 배운 다음 예측했습니다."
    ),
    "Regret is how much lower the success rate of the chosen agent is than that of the best one; 0 is best.": (
        "후회는 고른 에이전트의 성공률이 가장 좋은 에이전트보다 얼마나 낮은지입니다. 0이 가장 좋습니다."
    ),
    "most used": "가장 많이 쓰임",
    "last success": "마지막 성공",
    "random": "무작위",
    "evidence without categories": "카테고리 없는 evidence",
    "unrelated": "쓰임과 상관없음",
    "good agents used more": "좋은 에이전트가 더 쓰임",
    "bad agents used more": "나쁜 에이전트가 더 쓰임",
    "difficulty unevenly spread": "어려움이 고르지 않음",
    "good agents get the hard tasks": "좋은 에이전트가 어려운 일을 맡음",
    "category and agent": "카테고리와 에이전트",
    "every run": "모든 실행",
    "known": "입력한 것",
    "derived": "요청에서 만든 것",
    "chance": "성공 확률",
    "success share": "성공 비율",
    "best scored": "점수가 가장 높은 것",
    "any candidate": "아무 후보",
    "{answer} of `{tool}`": "`{tool}`의 {answer}",
    "{answer} by `{tool}`": "`{tool}`의 {answer}",
    "step {number}, ": "{number}번째 호출, ",
    "not compared: {known} earlier successes of this category are known, at least {least} are needed": (
        "비교하지 않음. 이 카테고리에서 알려진 앞선 성공은 {known}개이고 {least}개 이상 필요합니다"
    ),
    "its writes are those of an earlier success ({known} are known)": "쓰기가 앞선 성공 하나와 같음(알려진 성공 {known}개)",
    "its writes differ by {differs} from those of the nearest of {known} earlier successes": (
        "쓰기가 앞선 성공 {known}개 중 가장 가까운 것과 {differs}개 다름"
    ),
    "; that says little, because only {share} of them repeat another one's writes": (
        ". 다만 다른 성공의 쓰기를 되풀이한 것이 {share}뿐이라 말해 주는 것이 적음"
    ),
    # what plans change
    "all domains": "모든 도메인",
    "all": "전체",
    "plans are stopped": "계획을 멈춤",
    "points": "점",
    "helps": "도움이 됨",
    "harms": "해로움",
    "no difference shown": "차이가 보이지 않음",
    "too few runs": "실행이 너무 적음",
    "nothing withheld": "주지 않은 계획이 없음",
    "No plans are given in {domain} since {since} UTC, because they did harm. `agentmodel impact --resume {id}` lets them "
    "be given again.": (
        "{domain}에서는 계획이 해로워서 {since} UTC부터 주지 않습니다. `agentmodel impact --resume {id}`로 다시 줍니다."
    ),
    # units of AWS
    "records, moved expiries, suggestions": "기록, 옮긴 만료 시각, 제안",
    "plans, moved expiries, and each publish reads every mapping": "계획, 옮긴 만료 시각, 그리고 publish마다 읽는 모든 매핑",
    "items of 30 to 60 days, without indexes": "30~60일의 아이템, 인덱스 없이",
    "point-in-time recovery, which zero-ETL needs": "zero-ETL에 필요한 시점 복구(PITR)",
    "zero-ETL's incremental exports": "zero-ETL의 증분 내보내기",
    "a shard with one replica": "복제본이 하나 있는 샤드",
    "refreshes, and an hourly batch of zero-ETL, 60 seconds at least": "refresh, 그리고 한 시간마다 60초 이상의 zero-ETL",
    "landed and base tables after a year, before compression": "1년 뒤의 테이블, 압축 전",
    "two tasks of the drainer": "드레이너 태스크 두 개",
    "learn as long as it waits, and a second of watch each minute": "learn이 기다리는 동안, 그리고 1분마다 watch 1초",
    "not billed: records in the busiest second, to compare with the table's limit": (
        "과금 없음: 가장 바쁜 1초의 기록. 테이블의 한도와 비교할 값"
    ),
    "not billed: memory of the nodes": "과금 없음: 노드의 메모리",
}
