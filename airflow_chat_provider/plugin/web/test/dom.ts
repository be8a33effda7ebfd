// As much of a document as Preact needs to show something, so that components are tested without a browser.

class FakeNode {
  parentNode: FakeElement | null = null;
  childNodes: FakeNode[] = [];
  constructor(readonly nodeType: number) {}
  get nextSibling(): FakeNode | null {
    const all = this.parentNode?.childNodes ?? [];
    return all[all.indexOf(this) + 1] ?? null;
  }
  get firstChild(): FakeNode | null {
    return this.childNodes[0] ?? null;
  }
  get lastChild(): FakeNode | null {
    return this.childNodes.at(-1) ?? null;
  }
  remove() {
    this.parentNode?.removeChild(this);
  }
  contains(node: FakeNode | null): boolean {
    for (let one = node; one; one = one.parentNode) if (one === this) return true;
    return false;
  }
}

class FakeText extends FakeNode {
  constructor(public data: string) {
    super(3);
  }
  get nodeValue() {
    return this.data;
  }
  set nodeValue(value: string) {
    this.data = value;
  }
}

export class FakeElement extends FakeNode {
  attributes: { name: string; value: string }[] = [];
  style: Record<string, unknown> = { setProperty(name: string, value: string) { this[name] = value; } };
  listeners = new Map<string, ((event: unknown) => void)[]>();
  ownerDocument = fakeDocument;
  namespaceURI = "http://www.w3.org/1999/xhtml";
  constructor(readonly localName: string) {
    super(1);
  }
  get nodeName() {
    return this.localName.toUpperCase();
  }
  insertBefore(node: FakeNode, before: FakeNode | null) {
    node.remove();
    const at = before ? this.childNodes.indexOf(before) : -1;
    this.childNodes.splice(at < 0 ? this.childNodes.length : at, 0, node);
    node.parentNode = this;
    return node;
  }
  appendChild(node: FakeNode) {
    return this.insertBefore(node, null);
  }
  removeChild(node: FakeNode) {
    this.childNodes = this.childNodes.filter((one) => one !== node);
    node.parentNode = null;
    return node;
  }
  setAttribute(name: string, value: unknown) {
    this.removeAttribute(name);
    this.attributes.push({ name, value: String(value) });
  }
  removeAttribute(name: string) {
    this.attributes = this.attributes.filter((one) => one.name !== name);
  }
  addEventListener(name: string, listener: (event: unknown) => void) {
    this.listeners.set(name, [...(this.listeners.get(name) ?? []), listener]);
  }
  removeEventListener() {}
  querySelector() {
    return null;
  }
  set innerHTML(_: string) {
    throw new Error("innerHTML must not be used");
  }
  all(name: string): FakeElement[] {
    const below = this.childNodes.filter((one): one is FakeElement => one instanceof FakeElement);
    return below.flatMap((one) => [...(one.localName === name ? [one] : []), ...one.all(name)]);
  }
  attribute(name: string): string | null {
    return this.attributes.find((one) => one.name === name)?.value ?? null;
  }
  fire(name: string, event: Record<string, unknown> = {}) {
    for (const listener of this.listeners.get(name) ?? []) {
      listener.call(this, { type: name, currentTarget: this, target: this, preventDefault() {}, ...event });
    }
  }
  get text(): string {
    return this.childNodes.map((one) => (one instanceof FakeElement ? one.text : (one as FakeText).data)).join("");
  }
  get html(): string {
    const names = this.attributes.map(({ name, value }) => ` ${name}="${value}"`).join("");
    const inside = this.childNodes.map((one) => (one instanceof FakeElement ? one.html : (one as FakeText).data)).join("");
    return `<${this.localName}${names}>${inside}</${this.localName}>`;
  }
}

const fakeDocument: Record<string, unknown> = {
  createElement: (name: string) => new FakeElement(name),
  createElementNS: (_: string, name: string) => new FakeElement(name),
  createTextNode: (text: string) => new FakeText(text),
  documentElement: { dataset: {} },
};
Object.assign(globalThis, {
  document: fakeDocument,
  location: { href: "https://airflow.example/chat/conversation", hash: "", search: "" },
  addEventListener() {},
  removeEventListener() {},
});

// A page that looks again after some seconds would keep the tests' process from ending.
const soon = globalThis.setTimeout;
globalThis.setTimeout = ((run: () => void, delay?: number) => {
  const timer = soon(run, delay);
  return (delay ?? 0) < 1000 ? timer : timer.unref();
}) as typeof setTimeout;

/** Shows it, and lets effects run. */
export async function show(node: unknown): Promise<FakeElement> {
  const { render } = await import("preact");
  const root = new FakeElement("root");
  render(node as never, root as never);
  await settled();
  return root;
}

/** Without a screen, Preact waits up to 35 ms for a frame before it runs effects. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 40; turn += 1) await new Promise((resolve) => setTimeout(resolve, 2));
}
