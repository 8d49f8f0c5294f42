"""A dinner that went wrong, in two languages: what the pictures of the documentation show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from agentmodel import AgentModel, Review, Tool, ToolExecution, UserSession, UserSessionProcess
from agentmodel.suggest.review import arguments_hash

SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "description": "Name of the restaurant."},
        "day": {"type": "string", "format": "date"},
        "guests": {"type": "integer", "minimum": 1, "maximum": 12},
        "room": {"type": "string", "enum": ["hall", "garden"]},
        "contact": {"type": "object", "properties": {"name": {"type": "string"}, "phone": {"type": "string"}}},
    },
}

TEXTS: dict[str, dict[str, Any]] = {
    "en": {
        "session": "SESSdinner-en", "request": "Dinner for ten colleagues near Seomun Market, on Thursday",
        "steps": ("Find restaurants", "Read what guests say", "Reserve a table"), "place": "Seomun Noodles", "queue": "bookings",
        "party": "A farewell party for ten, outdoors",
        "error": "No table for ten before 21:00.", "name": "Mina Kim", "ended": "No table for ten anywhere.",
        "question": "Reserve a table for ten at Seomun Noodles?", "reason": "A reservation cannot be taken back.",
        "why": "Ask for the garden: the hall is too small.",
        "again": "Reserve the garden of Seomun Noodles for ten?",
        "others": ("Ask all ten guests whether Friday suits them?", "Send the invitation to the whole team?"),
    },
    "ko": {
        "session": "SESSdinner-ko", "request": "목요일에 서문시장 근처에서 동료 열 명과 저녁 식사",
        "steps": ("식당 찾기", "후기 읽기", "자리 예약"), "place": "서문국수", "queue": "예약", "party": "열 명 송별회, 야외",
        "error": "21시 전에는 열 명 자리가 없습니다.", "name": "김민아", "ended": "열 명이 앉을 자리가 없습니다.",
        "question": "서문국수에 열 명 자리를 예약할까요?", "reason": "예약은 되돌릴 수 없습니다.",
        "why": "홀은 좁으니 정원으로 요청하세요.",
        "again": "서문국수 정원에 열 명 자리를 예약할까요?",
        "others": ("손님 열 명 모두에게 금요일이 괜찮은지 물을까요?", "팀 전체에 초대장을 보낼까요?"),
    },
}  # fmt: skip


RESERVE, DOMAIN = "TL090", "DMN001"


def dinner(model: AgentModel, language: str) -> Review:
    """Record the session, with a question that was answered and one that is open; return the open one."""
    told, day = TEXTS[language], (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    began = datetime.now(UTC) - timedelta(hours=1)
    model.repository.put(
        Tool(
            agent_id="AGT003", tool_id=RESERVE, domain_id=DOMAIN,
            name="book_table", description="Reserves a table.", spec=SPEC, needs_review=True,
        )
    )  # fmt: skip
    user, session = "USR001", told["session"]
    arguments = {"place": told["place"], "day": day, "guests": 10, "room": "hall", "contact": {"name": told["name"]}}

    def call(step: int, at: float, took: int, called: tuple[str, str, str], **more: Any) -> ToolExecution:
        agent, tool, name = called
        given = {
            "succeeded": True,
            "status": "ok",
            "result": f'["{told["place"]}"]',
            "input_tokens": 900,
            "session_id": session,
        } | more
        return ToolExecution(
            user_id=user, process_id=f"PRC00{step}", agent_id=agent, tool_id=tool, tool_name=name,
            executed_at=began + timedelta(seconds=at), duration_ms=took, output_tokens=120, **given,
        )  # fmt: skip

    full: dict[str, Any] = {"succeeded": False, "status": "error", "error_type": "FullyBooked", "result": told["error"]}
    entities: list[Any] = [
        UserSession(
            user_id=user, session_id=session, name=told["request"], request=told["request"], started_at=began,
            ended_at=began + timedelta(seconds=210), succeeded=False, summary=told["ended"],
        ),
        *(
            UserSessionProcess(
                user_id=user, session_id=session, process_id=f"PRC00{number}", name=name, started_at=began
            )
            for number, name in enumerate(told["steps"], start=1)
        ),
        call(1, 12, 9_000, ("AGT001", "TL001", "find_on_map"), values=f'{{"near": "{told["place"]}"}}'),
        call(2, 30, 14_000, ("AGT002", "TL004", "search_reviews"), values=f'{{"place": "{told["place"]}"}}'),
        call(3, 171, 11_000, ("AGT003", RESERVE, "book_table"), values=f'{{"place": "{told["place"]}"}}', **full),
        call(3, 205, 16_000, ("AGT003", RESERVE, "book_table"), values='{"room": "garden"}', attempt=2, **full),
    ]  # fmt: skip
    for entity in entities:
        model.recorder.record(entity)
    model.settle()
    asked = began + timedelta(seconds=34)
    common: dict[str, Any] = {
        "user_id": user, "session_id": session, "phase": "pre", "process_id": "PRC003", "agent_id": "AGT003",
        "tool_id": RESERVE, "arguments": arguments, "arguments_hash": arguments_hash(arguments), "queue_name": "review",
        "allowed": ["approve", "edit", "reject", "respond"], "reason": told["reason"], "on_expiry": "reject",
    }  # fmt: skip
    answered = Review(
            review_id="first", question=told["question"], status="edited", asked_at=asked, decision="edit",
            decided_by="USRlee", decided_at=asked + timedelta(seconds=118), decision_reason=told["why"],
            final_arguments=arguments | {"room": "garden"}, answer_until=asked + timedelta(hours=1), trail=[], **common,
    )  # fmt: skip
    model.writer.save(answered)
    model.repository.invalidate([answered])
    party = f"{session}-party"
    model.recorder.record(UserSession(user_id=user, session_id=party, name=told["party"], request=told["party"]))
    model.recorder.record(call(1, 3400, 8_000, ("AGT001", "TL001", "find_on_map"), session_id=party))
    model.settle()
    open_one, *_ = [
        model.reviews.ask(
            user, party, question, arguments=arguments | {"room": "garden"}, agent_id="AGT003", tool_id=tool,
            reason=told["reason"], answer_within=timedelta(minutes=minutes), queue=told["queue"],
        )
        for question, minutes, tool in ((told["again"], 12, RESERVE), *((each, 55, "TL009") for each in told["others"]))
    ]  # fmt: skip
    return open_one
