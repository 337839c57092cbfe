// The function on the local stack, which gives it none of your variables.

process.env.BROADCASTER_FUNCTION = "Broadcaster";
process.env.LAMBDA_ENDPOINT = process.env.AWS_ENDPOINT_URL_LAMBDA;

export { handler } from "./index.mjs";
