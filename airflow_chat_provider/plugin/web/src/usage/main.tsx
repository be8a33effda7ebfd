import { render } from "preact";
import "../lib/base.css";

render(<h1>Chat usage</h1>, document.getElementById("page")!);
