import { render } from "preact";
import "../lib/base.css";
import { followTheme } from "../lib/theme";

followTheme();
render(<h1>Conversation</h1>, document.getElementById("page")!);
