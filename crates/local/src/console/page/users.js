// Which user each connection belongs to. Traffic outlives connections, so the
// page remembers more than are open.

const MAX_REMEMBERED = 2_000;

const users = new Map();
const listeners = [];

export function remember(connections) {
  const news = connections.filter(({ id, userId }) => userId !== undefined && !users.has(id));
  for (const { id, userId } of news) users.set(id, userId);
  for (const id of users.keys()) {
    if (users.size <= MAX_REMEMBERED) break;
    users.delete(id);
  }
  if (news.length > 0) for (const listener of listeners) listener();
}

/** Calls back when more users are known. */
export function onNews(listener) {
  listeners.push(listener);
}

/** The connection's user, or a part of its id while that is not known. */
export function nameOf(connection) {
  return users.get(connection) ?? connection.slice(0, 6);
}
