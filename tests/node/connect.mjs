// Opens a socket as a browser or a tool would, and prints what came of it.
// Arguments: the URL, and JSON {protocols, headers, send}.
import WebSocket from "ws";

const [url, json] = process.argv.slice(2);
const { protocols = [], headers = {}, send } = JSON.parse(json ?? "{}");
const socket = new WebSocket(url, protocols, { headers });

function done(result) {
  console.log(JSON.stringify(result));
  process.exit(0);
}

socket.on("open", () => {
  if (send === undefined) done({ protocol: socket.protocol });
  socket.send(send);
});
socket.on("message", (data) => done({ protocol: socket.protocol, message: JSON.parse(data) }));
socket.on("unexpected-response", (_, response) => done({ status: response.statusCode }));
socket.on("error", (error) => done({ error: error.message }));
