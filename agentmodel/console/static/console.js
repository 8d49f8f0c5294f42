// Keys, changed fields, and news. Every page works without it.
const one = (selector) => document.querySelector(selector);
const rows = [...document.querySelectorAll("[data-row]")];
const help = one("#help");
const single = one("#single");
if (single) {
  single.checked = localStorage.getItem("agentmodel.single") !== "no";
  single.addEventListener("change", () => localStorage.setItem("agentmodel.single", single.checked ? "yes" : "no"));
}
function step(by) {
  const at = rows.indexOf(document.activeElement);
  const from = at >= 0 ? at : rows.findIndex((row) => row.ariaCurrent === "true");
  rows[Math.max(0, Math.min(rows.length - 1, from + by))]?.focus();
}
const button = (value) => one(`#decision button[value="${value}"]`);
const keys = {
  j: () => step(1),
  k: () => step(-1),
  a: () => (button("approve") ?? button("verdict"))?.focus(),
  e: () => one("#decision [data-was] :is(textarea, select, input)")?.focus(),
  r: () => one("#reason")?.focus(),
  c: () => button("claim")?.focus(),
  "?": () => help?.showModal(),
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.isComposing) return;
  if (event.key === "Escape" && typing) return typing.blur();
  if (typing?.form?.id === "decision" && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const value = { reason: "reject", response: "respond" }[typing.id] ?? "edit";
    (button("verdict") ?? button(value))?.click();
    return;
  }
  if (typing?.form?.id === "decision" && typing.matches("input") && event.key === "Enter") return event.preventDefault();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || help?.open || !(single?.checked ?? false)) return;
  const act = keys[event.key];
  if (act) { event.preventDefault(); act(); }
});
const fields = [...document.querySelectorAll("[data-was]")].filter((field) => field.querySelector("textarea, select, input"));
for (const field of fields) {
  const input = field.querySelector("textarea, select, input");
  const first = field.querySelector(".was").hidden ? input.value : null;
  const show = () => {
    const changed = input.value !== (first ?? field.dataset.was);
    field.classList.toggle("changed", changed);
    field.querySelector(".was").hidden = !changed;
    if (button("approve")) button("approve").disabled = one(".field.changed") !== null;
  };
  input.addEventListener("input", show);
  show();
}
// Nothing moves under the hands of somebody who types: a line says that the questions have changed.
const { news, version } = document.body.dataset;
if (news) {
  let tag = `"${version}"`;
  let wait = 5000;
  const ask = async () => {
    if (document.visibilityState === "visible") {
      try {
        const answer = await fetch(news, { headers: { "if-none-match": tag }, redirect: "error", cache: "no-store" });
        if (answer.status === 200) {
          tag = answer.headers.get("etag");
          one("#fresh").hidden = false;
        }
        wait = 5000;
      } catch {
        wait = Math.min(wait * 2, 60000);
      }
    }
    setTimeout(ask, wait);
  };
  setTimeout(ask, wait);
}
