import { render } from "preact";
import "../lib/base.css";
import "../lib/text.css";
import "./usage.css";
import { ErrorNotice, Guard } from "../lib/components";
import { Page } from "./page";

render(
  <Guard fallback={(error) => <ErrorNotice error={error} what="the usage" retry={() => location.reload()} />}>
    <Page />
  </Guard>,
  document.getElementById("page")!,
);
