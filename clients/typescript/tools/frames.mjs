// Turns the JSON Schemas of frames into TypeScript.

const HEADER = "// Generated from schemas/ by `npm run generate`. Do not edit.\n";

/** Definitions that are inlined: the fields of a frame around its `data`. */
const isEnvelope = (name) => /^(Envelope|Bare|Hello|Message)\d*$/.test(name);

/** The fields that every frame has. */
const COMMON = ["version", "id", "timestamp", "correlationId"];

/** Types whose schema says less than the protocol does. */
const OVERRIDES = {
  MessageFrame: 'ServerFrames["message"] | ServerFrames["notification"]',
  NotificationData: "{ kind: string; [field: string]: unknown }",
};

/** Named otherwise, because another type of the same name is clearer. */
const RENAMED = { MessageFrame: "KeptFrame", KnownKind: "KnownNotification" };

const nameOf = (reference) => {
  const name = reference.slice("#/$defs/".length);
  return RENAMED[name] ?? name;
};

const comment = (description, indent = "") =>
  description === undefined ? "" : `${indent}/** ${description.replaceAll("\n\n", " ").replaceAll("*/", "*\\/")} */\n`;

export function framesModule(server, client) {
  const definitions = mergeDefinitions(server.$defs, client.$defs);
  const types = Object.entries(definitions)
    .filter(([name]) => !isEnvelope(name))
    .map(([name, schema]) => namedType(name, schema));
  return [
    HEADER,
    ...types,
    envelopeInterface(server.$defs.Bare),
    framesInterface("ServerFrames", "The frames that a server sends, by type.", server),
    framesInterface("ClientFrames", "The frames that a client sends, by type.", client),
    "/** A frame from the server. */\nexport type ServerFrame = ServerFrames[keyof ServerFrames];\n",
    kindsInterface(server),
  ].join("\n");
}

function mergeDefinitions(...all) {
  const merged = {};
  for (const definitions of all) {
    for (const [name, schema] of Object.entries(definitions)) {
      if (isEnvelope(name)) continue;
      const known = merged[name];
      if (known !== undefined && JSON.stringify(known) !== JSON.stringify(schema)) {
        throw new Error(`the schemas of clients and servers differ in ${name}`);
      }
      merged[name] = schema;
    }
  }
  return Object.fromEntries(Object.entries(merged).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function namedType(name, schema) {
  const text = comment(schema.description);
  const shown = RENAMED[name] ?? name;
  if (OVERRIDES[name]) return `${text}export type ${shown} = ${OVERRIDES[name]};\n`;
  if (schema.type === "object" && schema.properties) {
    return `${text}export interface ${shown} ${object(schema)}\n`;
  }
  return `${text}export type ${shown} = ${type(schema)};\n`;
}

function envelopeInterface(bare) {
  const properties = Object.fromEntries(COMMON.map((field) => [field, bare.properties[field]]));
  return `${comment("The fields that every frame has besides `type` and `data`.")}export interface Envelope ${object({ ...bare, properties })}\n`;
}

/** An interface with one member for each frame type. */
function framesInterface(name, description, schema) {
  const members = schema.oneOf.map((variant) => {
    const base = schema.$defs[variant.$ref.slice("#/$defs/".length)];
    const own = Object.entries(base.properties).filter(([field]) => !COMMON.includes(field));
    const whole = {
      properties: { ...variant.properties, ...Object.fromEntries(own) },
      required: [...variant.required, ...(base.required ?? [])],
    };
    const frame = variant.properties.type.const;
    return `${comment(variant.description, "  ")}  ${JSON.stringify(frame)}: Envelope & ${object(whole, "  ")};`;
  });
  return `${comment(description)}export interface ${name} {\n${members.join("\n")}\n}\n`;
}

/** The data of the kinds that the protocol defines. */
function kindsInterface(schema) {
  const members = schema.$defs.KnownKind.oneOf.map(
    (variant) => `  ${JSON.stringify(variant.properties.kind.const)}: ${nameOf(variant.$ref)};`,
  );
  return `/** The data of the kinds that the protocol defines. */\nexport interface ProtocolKinds {\n${members.join("\n")}\n}\n`;
}

function object(schema, indent = "") {
  const required = new Set(schema.required ?? []);
  const members = Object.entries(schema.properties).map(([name, member]) => {
    const isRequired = required.has(name);
    // A sender leaves an optional field out and never writes null.
    const text = isRequired ? type(member) : withoutNull(member);
    const key = /^[a-zA-Z]+$/.test(name) ? name : JSON.stringify(name);
    return `${comment(member.description, `${indent}  `)}${indent}  ${key}${isRequired ? "" : "?"}: ${text};`;
  });
  return `{\n${members.join("\n")}\n${indent}}`;
}

function withoutNull(schema) {
  if (schema.anyOf) return type({ anyOf: schema.anyOf.filter((one) => one.type !== "null") });
  if (Array.isArray(schema.type)) {
    const types = schema.type.filter((one) => one !== "null");
    return type({ ...schema, type: types.length === 1 ? types[0] : types });
  }
  return type(schema);
}

function type(schema) {
  if (schema.$ref) {
    const own = schema.properties ? ` & ${object(schema)}` : "";
    return nameOf(schema.$ref) + own;
  }
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return choices.map(type).join(" | ");
  if (Array.isArray(schema.type)) return schema.type.map((one) => type({ ...schema, type: one })).join(" | ");
  switch (schema.type) {
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    case "integer":
    case "number":
      return "number";
    case "array":
      return `Array<${type(schema.items)}>`;
    case "object":
      return schema.properties ? object(schema) : "Record<string, unknown>";
    default:
      return "unknown";
  }
}
