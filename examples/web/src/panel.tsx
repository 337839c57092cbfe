import { type ReactElement, type ReactNode, useId } from "react";

interface PanelProps {
  title: string;
  /** What the panel shows of Belfry. */
  about: ReactNode;
  name: string;
  aside?: ReactNode;
  children: ReactNode;
}

/** A part of the page, with a heading of its own. */
export function Panel({ title, about, name, aside, children }: PanelProps): ReactElement {
  const id = useId();
  return (
    <section className={`panel panel-${name}`} aria-labelledby={id}>
      <header className="panel-head">
        <div>
          <h2 id={id}>{title}</h2>
          <p className="about">{about}</p>
        </div>
        {aside}
      </header>
      {children}
    </section>
  );
}
