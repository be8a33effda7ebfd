import { test } from "node:test";
import assert from "node:assert/strict";

test("the tests run", () => assert.equal(1, 1));
