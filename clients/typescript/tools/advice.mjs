// Turns the table "Errors and closes" of docs/PROTOCOL.md into TypeScript.

const HEADER =
  "// Generated from docs/PROTOCOL.md and schemas/ by `npm run generate`. Do not edit.\n" +
  'import type { ErrorCode } from "./frames.js";\n';
const ADVICE = ["retryNow", "retryLater", "refreshToken", "signIn", "giveUp"];

export function adviceModule(protocol, serverSchema) {
  const codes = serverSchema.$defs.ErrorCode.oneOf.map((code) => code.const);
  const { answers, closing, closes, gateway } = readTable(protocol, codes);
  const missing = codes.filter((code) => !answers.has(code) && !closing.has(code));
  if (missing.length > 0) throw new Error(`docs/PROTOCOL.md gives no advice for ${missing.join(", ")}`);
  // An error that always closes the connection has no other advice.
  const advised = codes.map((code) => [code, answers.get(code) ?? closing.get(code)]);
  const errors = advised.filter(([, word]) => word !== "giveUp");
  return [
    HEADER,
    `/** What to do after a failure. */\nexport type Advice = ${ADVICE.map((word) => JSON.stringify(word)).join(" | ")};\n`,
    record(
      "errorAdvice",
      "What to do after an error frame. After one that is not here: `giveUp`.",
      "Readonly<Partial<Record<ErrorCode, Advice>>>",
      errors,
    ),
    record(
      "closingAdvice",
      "What to do after an error frame that ends its connection.",
      "Readonly<Partial<Record<ErrorCode, Advice>>>",
      [...closing],
    ),
    record(
      "closeAdvice",
      "What to do after a connection was closed with this code and without an error frame before. After any other: `retryLater`.",
      "Readonly<Record<number, Advice>>",
      [...closes].filter(([, word]) => word !== "retryLater").sort(([a], [b]) => a - b),
    ),
    `/** What to do after API Gateway's own error frame, which has no \`type\`. */\nexport const gatewayAdvice: Advice = ${JSON.stringify(gateway)};\n`,
  ].join("\n");
}

function readTable(protocol, codes) {
  const start = protocol.indexOf("### Errors and closes");
  const section = protocol.slice(start, protocol.indexOf("\n### ", start + 1));
  const rows = section
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| ---") && !line.startsWith("| frame or close"))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const [answers, closing, closes] = [new Map(), new Map(), new Map()];
  let gateway;
  for (const [first, , , advice] of rows) {
    const word = ADVICE.find((one) => advice.startsWith(`\`${one}\``));
    if (!word) throw new Error(`docs/PROTOCOL.md, "${first}": no advice`);
    const code = codes.find((one) => first.startsWith(`\`${one}\``));
    const numbers = /^close ([\d, ]+)/.exec(first)?.[1];
    if (code) (first.includes("then close") ? closing : answers).set(code, word);
    else if (numbers) for (const number of numbers.split(",")) closes.set(Number(number), word);
    else if (first.includes("Internal server error")) gateway = word;
    else if (first !== "`reconnect`") throw new Error(`docs/PROTOCOL.md, "${first}": not an error, close or frame`);
  }
  if (!gateway) throw new Error("docs/PROTOCOL.md: API Gateway's error frame is missing");
  return { answers, closing, closes, gateway };
}

function record(name, description, type, entries) {
  const members = entries.map(([key, value]) => `  ${key}: ${JSON.stringify(value)},`).join("\n");
  return `/** ${description} */\nexport const ${name}: ${type} = {\n${members}\n};\n`;
}
