import { render } from "preact";
import "../lib/base.css";

render(<h1>Conversation</h1>, document.getElementById("page")!);
