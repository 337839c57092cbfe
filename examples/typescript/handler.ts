// Stores an upload in S3 and notifies its owner's browsers through Belfry. The
// request is POST ?file=x.png with the file as the body. The handler has the
// Web-standard form that Vercel and Next.js expect.
import { randomUUID } from "node:crypto";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { awsCredentialsProvider } from "@vercel/oidc-aws-credentials-provider";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";

const MAX_BYTES = 4 * 1024 * 1024; // Vercel accepts at most 4.5 MB.

const bucket = setting("UPLOADS_BUCKET");
const broadcaster = setting("BROADCASTER_FUNCTION");
const issuer = setting("TOKEN_ISSUER");
// A user pool has one of two issuers. The keys of both are below the first.
const issuers = [issuer, issuer.replace("://cognito-idp.", "://issuer-cognito-idp.")];
const clients = setting("COGNITO_CLIENT_IDS").split(",").map((id) => id.trim());
const jwksUrl = process.env.TOKEN_JWKS_URL || `${issuer.replace(/\/$/, "")}/.well-known/jwks.json`;
const keys = createRemoteJWKSet(new URL(jwksUrl));

const { AWS_ROLE_ARN: roleArn, VERCEL } = process.env;
const aws = roleArn && VERCEL ? { credentials: awsCredentialsProvider({ roleArn }) } : {};
const s3 = new S3Client(aws);
const lambda = new LambdaClient(aws);

export async function POST(request: Request): Promise<Response> {
  try {
    const userId = await userOf(request);
    const file = new URL(request.url).searchParams.get("file") ?? "";
    if (!/^[^\p{Cc}/\\]{1,255}$/u.test(file)) throw refusal(400, "?file= must be a file name");
    const body = await bodyOf(request);
    const uploadId = randomUUID();
    await s3.send(new PutObjectCommand({
      Bucket: bucket,
      Key: `${encodeURIComponent(userId)}/${uploadId}`, // the client chooses no part of it
      Body: body,
      ContentDisposition: `attachment; filename*=UTF-8''${encodeURIComponent(file)}`,
    }));
    await tell(userId, file, uploadId);
    return Response.json({ uploadId, file, size: body.length }, { status: 201 });
  } catch (error) {
    if (error instanceof Response) return error;
    console.error("upload failed:", error);
    return refusal(503, "try again later");
  }
}

async function userOf(request: Request): Promise<string> {
  const token = /^Bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
  const { payload } = await jwtVerify(token, keys, { issuer: issuers, algorithms: ["RS256"], requiredClaims: ["exp"] })
    .catch((error: unknown) => {
      // If the keys cannot be fetched, the token may still be valid: not a 401.
      const fetched = error instanceof errors.JOSEError && !/GENERIC|TIMEOUT|JWKS_INVALID/.test(error.code);
      throw fetched ? refusal(401, "a valid access token is required") : error;
    });
  const { sub, token_use, client_id, aud } = payload;
  const isClient = (id: unknown) => clients.includes(String(id));
  // An audience that is not this API's is final, whichever client asked for the token.
  const isForUs = aud === undefined || [aud].flat().some(isClient);
  if (sub && token_use === "access" && isClient(client_id) && isForUs) return sub;
  throw refusal(401, "a valid access token is required");
}

async function bodyOf(request: Request): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength; // Content-Length can be absent or wrong
    if (size > MAX_BYTES) throw refusal(413, `a file may be at most ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Only logs a failure: the file is stored already, so the upload must not fail. */
async function tell(userId: string, file: string, uploadId: string): Promise<void> {
  const target = { type: "user", userId };
  const message = { type: "notification", data: { kind: "upload.completed", file } };
  const Payload = JSON.stringify({ target, message, messageId: uploadId });
  const command = new InvokeCommand({ FunctionName: broadcaster, InvocationType: "Event", Payload });
  await lambda.send(command, { abortSignal: AbortSignal.timeout(3000) })
    .catch((error: unknown) => console.error(`upload ${uploadId}: could not notify its owner:`, error));
}

function refusal(status: number, error: string): Response {
  return Response.json({ error }, { status });
}

function setting(name: string): string {
  const value = process.env[name];
  if (value) return value;
  throw new Error(`${name} is not set`);
}
