// Turns the advice in the schema of server frames into TypeScript.

const HEADER =
  "// Generated from schemas/ by `npm run generate`. Do not edit.\n" +
  'import type { ErrorCode } from "./frames.js";\n';

export function adviceModule(schema) {
  const codes = schema.$defs.ErrorCode.oneOf;
  const errors = codes.map((code) => [code.const, code["x-advice"]]);
  const closes = Object.entries(schema["x-closeAdvice"]);
  const gateway = schema["x-gatewayErrorAdvice"];
  const words = new Set([...errors, ...closes].map(([, word]) => word).concat(gateway));
  const closing = codes.filter((code) => code["x-mayClose"]).map((code) => code.const);
  return [
    HEADER,
    `/** What to do after a failure. */\nexport type Advice = ${union([...words])};\n`,
    record(
      "errorAdvice",
      "What to do after an error frame. After one that is not here: `giveUp`.",
      "Readonly<Partial<Record<ErrorCode, Advice>>>",
      errors.filter(([, word]) => word !== "giveUp"),
    ),
    `/** The errors after which the server may close the connection. */\nexport const closingErrors: ReadonlySet<string> = new Set<ErrorCode>([\n${closing.map((code) => `  ${JSON.stringify(code)},\n`).join("")}]);\n`,
    record(
      "closeAdvice",
      "What to do after a connection was closed with this code and without an error frame before. After any other: `retryLater`.",
      "Readonly<Record<number, Advice>>",
      closes.filter(([, word]) => word !== "retryLater"),
    ),
    `/** What to do after API Gateway's own error frame, which has no \`type\`. */\nexport const gatewayAdvice: Advice = ${JSON.stringify(gateway)};\n`,
  ].join("\n");
}

function union(words) {
  return words.map((word) => JSON.stringify(word)).join(" | ");
}

function record(name, description, type, entries) {
  const members = entries.map(([key, value]) => `  ${key}: ${JSON.stringify(value)},`).join("\n");
  return `/** ${description} */\nexport const ${name}: ${type} = {\n${members}\n};\n`;
}
