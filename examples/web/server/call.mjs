// The CallFunction: passes each call on to the demo's server. Its processes share no memory, and the quotes are in the
// server's.
export async function handler(event) {
  const response = await fetch(process.env.CALLS_URL, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${process.env.CALLS_KEY}` },
    body: JSON.stringify(event),
  });
  if (!response.ok) throw new Error(`the demo's server answered ${response.status}`);
  return response.json();
}
