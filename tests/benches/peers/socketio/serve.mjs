// Socket.IO with connection state recovery and its adapter in memory, which keep
// what each client missed. It takes the broadcaster's request as a POST and sends
// it to a room. Prints its addresses as JSON.
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { Server } from "socket.io";

const http = createServer(async (request, response) => {
  if (request.method !== "POST") return response.writeHead(405).end();
  const { target, message } = JSON.parse(await text(request));
  io.to(target.channel).emit("message", message.data);
  response.end("{}");
});
const io = new Server(http, {
  transports: ["websocket"],
  connectionStateRecovery: { maxDisconnectionDuration: 120_000 },
});
io.on("connection", (socket) => {
  if (!socket.recovered) socket.join(socket.handshake.auth.channel);
});
http.listen(0, "127.0.0.1", () => {
  const { port } = http.address();
  const url = `http://127.0.0.1:${port}`;
  console.log(JSON.stringify({ websocket: url, notify: `${url}/notify` }));
});
// The benchmark has ended.
process.stdin.on("end", () => process.exit(0)).resume();
