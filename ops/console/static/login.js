import { byId, fail } from "./parts.js";

async function enter(token) {
  const answer = await fetch("/login", { method: "POST", body: token });
  if (answer.ok) location.replace("/");
  else fail((await answer.text()).trim());
}

// The address that the terminal printed carries the token behind a #, which a browser sends to nobody.
const told = location.hash.slice(1);
if (told) {
  history.replaceState(null, "", "/login");
  enter(decodeURIComponent(told));
}
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(byId("token").value.trim());
});
