import { journal } from "./journal.ts";

export async function get<T>(path: string): Promise<T> {
  return answer<T>(await fetch(path));
}

export async function post<T = object>(path: string, body: object = {}): Promise<T> {
  const headers = { "content-type": "application/json" };
  return answer<T>(await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

/** For a button: the journal says if it failed. */
export async function act(path: string, body: object = {}): Promise<void> {
  try {
    await post(path, body);
  } catch (error) {
    journal.add(`The demo's server did not do that: ${(error as Error).message}`, "bad");
  }
}

async function answer<T>(response: Response): Promise<T> {
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body as T;
}
