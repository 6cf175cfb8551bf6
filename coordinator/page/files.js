// A sweep's files: what it made and what it was given, with digests.

import { getBlob, sweepPath } from "./api.js";
import { announce, copyButton, h, saveBlob, setText } from "./dom.js";
import { bytes, count, counted } from "./format.js";
import { tokenWanted } from "./live.js";
import { Table, child } from "./table.js";

export class FilesTab {
  constructor(id) {
    this.id = id;
    this.problem = h("p", { class: "problem", role: "alert" });
    this.problem.hidden = true;
    this.summary = h("p", { class: "summary" });
    this.artifacts = new Table({
      caption: "Artifacts", keyOf: ({ name }) => name, empty: "Artifacts are here once a job is complete.",
      columns: [...columns(), { title: "Download", kind: "action", show: (cell, artifact) => this.showDownload(cell, artifact) }],
    });
    this.inputs = new Table({ caption: "Inputs", keyOf: ({ name }) => name, columns: columns() });
    this.inputsBox = h("section", { "aria-label": "Inputs" }, h("h2", {}, "Inputs"), this.inputs.node);
    this.node = h("div", {},
      h("section", { "aria-label": "Artifacts" }, h("h2", {}, "Artifacts"), this.summary, this.problem, this.artifacts.node), this.inputsBox);
  }

  close() {}

  route() {}

  update({ artifacts, inputs, name }) {
    this.sweepName = name;
    this.artifacts.show(artifacts);
    this.summary.hidden = artifacts.length === 0;
    setText(this.summary, `${counted(artifacts.length, "file")}, ${bytes(artifacts.reduce((sum, { size }) => sum + size, 0))}. Digests are BLAKE3.`);
    this.inputs.show(inputs);
    this.inputsBox.hidden = inputs.length === 0;
  }

  showDownload(cell, artifact) {
    const button = child(cell, () => h("button", { type: "button", class: "small" }, "Download"));
    button.setAttribute("aria-label", `Download ${artifact.name}`);
    button.onclick = () => this.download(button, artifact);
  }

  async download(button, { name }) {
    this.problem.hidden = true;
    button.disabled = true;
    setText(button, "Fetching…");
    try {
      const { blob, name: given } = await getBlob(sweepPath(this.id, "artifacts", name));
      saveBlob(blob, given ?? `${this.sweepName}_${name.replaceAll("/", "_")}`);
      announce(`${name} downloaded`);
    } catch (error) {
      if (error.wantsToken) tokenWanted.send(error.message);
      this.problem.hidden = false;
      setText(this.problem, `${name}: ${error.message}`);
    } finally {
      button.disabled = false;
      setText(button, "Download");
    }
  }
}

function columns() {
  return [
    { title: "Name", head: true, kind: "wide", show: (cell, { name }) => setText(cell, name) },
    { title: "Size", kind: "number", show: showSize },
    { title: "Digest", kind: "digest", show: showDigest },
  ];
}

function showSize(cell, { size }) {
  setText(cell, bytes(size));
  cell.title = `${count(size)} bytes`;
}

/** The first digits of a digest, all of them in its title and on the clipboard. */
export function showDigest(cell, { name, digest }) {
  const box = child(cell, () => {
    const code = h("code");
    return h("span", { class: "copied" }, code, copyButton(`digest of ${name}`, () => code.title));
  });
  const code = box.firstElementChild;
  setText(code, `${digest.slice(0, 16)}…`);
  code.title = digest;
}
