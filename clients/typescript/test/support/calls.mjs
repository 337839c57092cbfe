// An application's function that serves calls.
export async function handler({ userId, action, data }) {
  if (action === "fail") throw new Error("it fails");
  return { userId, action, data };
}
