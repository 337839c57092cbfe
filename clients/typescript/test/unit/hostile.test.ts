import { expect, it } from "vitest";
import { parseFrame } from "../../src/frame.js";
import { connected } from "../support/client.js";
import { settle } from "../support/clock.js";
import { repositoryFile } from "../support/schema.js";

interface Case {
  name: string;
  text: string;
  expect: string;
}

const cases: Case[] = JSON.parse(repositoryFile("schemas/cases/server-frames.json"));
// The client sends no `echo`, so it need not read the answers.
const accepted = cases.filter(({ text, expect }) => expect === "accepted" && !/"type":"echo"/.test(text));

it("every frame that a server may send is read", () => {
  expect(accepted.length).toBeGreaterThan(20);
  for (const { name, text } of accepted) expect(parseFrame(text), name).toBeDefined();
});

it("no frame, expected or not, disturbs the client", async () => {
  const { environment, server, belfry } = await connected();
  const room = belfry.channel("room:7");
  await room.subscribe();
  const texts = [...accepted.map(({ text }) => text), "", "{", "null", "[]", "7", '{"type":7}', '{"type":"message"}'];
  for (const text of texts) {
    if (text.includes('"reconnect"') || text.includes('"error"')) continue;
    server.socket.sendText(text);
    await settle();
  }
  await environment.wake();
  expect(belfry.status.state).toBe("connected");
  await expect(room.publish("chat.line")).resolves.toMatchObject({ channel: "room:7" });
});
