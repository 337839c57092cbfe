// Decides about channels whose rule says "allow": "ask".

const OWNER = { allow: ["subscribe", "publish"], seconds: 300 };
const ANYONE_ELSE = { allow: [] };

export async function handler({ userId, channel }) {
  const owner = ownerOf(channel);
  return owner !== undefined && owner === userId ? OWNER : ANYONE_ELSE;
}

// A document's channel is doc:<owner>~<document>. The last ~ separates the two:
// an owner's ID may contain one, a document's may not.
function ownerOf(channel) {
  return /^doc:([^:]+)~[^:~]+$/.exec(channel)?.[1];
}
