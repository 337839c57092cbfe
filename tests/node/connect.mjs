// Opens a socket like a browser or a tool, and prints the result.
// Arguments: the URL, and JSON {protocols, headers, send, close}.
import WebSocket from "ws";

const [url, json] = process.argv.slice(2);
const { protocols = [], headers = {}, send, close } = JSON.parse(json ?? "{}");
const socket = new WebSocket(url, protocols, { headers });

function done(result) {
  console.log(JSON.stringify(result));
  process.exit(0);
}

socket.on("open", () => {
  if (close !== undefined) return socket.close(...close);
  if (send === undefined) done({ protocol: socket.protocol });
  socket.send(send);
});
socket.on("message", (data) => done({ protocol: socket.protocol, message: JSON.parse(data) }));
// 1006 means that the connection ended without a close (RFC 6455, section 7.1.5).
socket.on("close", (code) => done({ code, wasClean: code !== 1006 }));
socket.on("unexpected-response", (_, response) => done({ status: response.statusCode }));
socket.on("error", (error) => done({ error: error.message }));
