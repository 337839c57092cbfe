import { ConnectionStatusIndicator, NotificationCenter, NotificationToast, WebSocketProvider } from "@belfry/react";
import type { ReactElement } from "react";
import { Avatar } from "./avatar.tsx";
import { BoardPanel } from "./panels/board.tsx";
import { ConnectionPanel } from "./panels/connection.tsx";
import { JobPanel } from "./panels/job.tsx";
import { QuotePanel } from "./panels/quote.tsx";
import { TranscriptionPanel } from "./panels/transcription.tsx";
import { UploadsPanel } from "./panels/uploads.tsx";
import { Recorder } from "./recorder.tsx";
import type { Session } from "./session.ts";

export function App({ session }: { session: Session }): ReactElement {
  return (
    <WebSocketProvider url={session.websocket} token={session.token} reader={session.reader}>
      <a className="skip" href="#main">
        Skip to the panels
      </a>
      <header className="bar">
        <span className="brand">
          <img src="/bell.svg" alt="" width="28" height="28" />
          <h1>Belfry, live</h1>
        </span>
        <span className="user">
          <Avatar userId={session.userId} />
          <span>
            <span className="user-label">This tab is </span>
            <strong data-testid="user">{session.userId}</strong>
          </span>
        </span>
        <span className="bar-end">
          <ConnectionStatusIndicator />
          <NotificationCenter />
        </span>
      </header>
      <main id="main" tabIndex={-1}>
        <BoardPanel />
        <QuotePanel session={session} />
        <UploadsPanel session={session} />
        <TranscriptionPanel />
        <JobPanel session={session} />
        <ConnectionPanel session={session} />
      </main>
      <footer>
        <p>
          Open this page in a second window: it is another user. Behind it run the same functions that you deploy to
          AWS. <a href={session.console}>Look inside them in the local console.</a>
        </p>
      </footer>
      <NotificationToast />
      <Recorder />
    </WebSocketProvider>
  );
}
