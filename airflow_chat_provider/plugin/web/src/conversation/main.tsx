import { render } from "preact";
import "../lib/base.css";
import "../lib/text.css";
import "./conversation.css";
import { Api } from "../lib/api";
import { ErrorNotice, Guard, Notice } from "../lib/components";
import { followTheme } from "../lib/theme";
import { ConversationPage } from "./page";
import { readQuery } from "./query";

followTheme();
const root = document.getElementById("page")!;
const query = readQuery(location.search);
render(
  <Guard fallback={(error) => <ErrorNotice error={error} what="this page" />}>
    {"problem" in query ? (
      <Notice tone="warning" title="Open this page from a task instance in Airflow.">
        <p>{query.problem}</p>
      </Notice>
    ) : (
      <ConversationPage api={new Api()} place={query.place} />
    )}
  </Guard>,
  root,
);
