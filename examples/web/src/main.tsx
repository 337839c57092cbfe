import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "@belfry/react/styles.css";
import "./styles.css";
import { App } from "./app.tsx";
import { Session } from "./session.ts";

const root = createRoot(document.getElementById("root") as HTMLElement);
try {
  const session = await Session.begin();
  root.render(
    <StrictMode>
      <App session={session} />
    </StrictMode>,
  );
} catch {
  root.render(<p className="failure">The demo's server does not answer. Start it with “make demo”, and reload.</p>);
}
