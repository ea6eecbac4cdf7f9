/** Find the picture that will arrive at a node's input, from what its sources show before any run. */

/**
 * @typedef {{key: string, url?: string, video?: boolean, element?: HTMLImageElement, exact: boolean,
 *            from: string}} Source
 *   `key` changes with the picture; `exact`: nothing between it and the input could have changed it
 */

const IMAGE = /\.(png|jpe?g|webp|gif|bmp|avif|tiff?)$/i;
const VIDEO = /\.(mp4|webm|mov|mkv|m4v|avi)$/i;
const FILE_WIDGETS = ["image", "video", "file", "image_path"];
const PICTURES = ["IMAGE", "VIDEO"];
const BYPASSED = 4;
/** Where links of a subgraph's own inputs come from, inside; newer front ends write ids as text. */
const SUBGRAPH_INPUT = -10;
const FARTHEST = 24;

/** @returns {Source | undefined} */
export function upstreamPicture(node, inputName, rootGraph) {
  const slot = node.inputs?.findIndex((input) => input.name === inputName) ?? -1;
  return slot < 0 ? undefined : follow(node, slot, { rootGraph, exact: true, steps: 0 });
}

/** The picture that comes into input `slot` of `node`. */
function follow(node, slot, search) {
  const link = linkOf(node.graph, node.inputs?.[slot]?.link);
  if (!link || search.steps > FARTHEST) return undefined;
  const next = { ...search, steps: search.steps + 1 };
  if (Number(link.origin_id) === SUBGRAPH_INPUT) {
    const outer = findNode(search.rootGraph, (other) => other.subgraph === node.graph);
    return outer && follow(outer, link.origin_slot, next);
  }
  const origin = node.graph.getNodeById(link.origin_id);
  return origin && pictureOf(origin, link.origin_slot, next);
}

/** The picture that `node` gives out. */
function pictureOf(node, slot, search) {
  if (node.subgraph) return fromSubgraph(node, slot, search);
  const passesOn = node.mode === BYPASSED || /reroute/i.test(node.type ?? "");
  const own = passesOn ? undefined : ownPicture(node, search);
  if (own) return own;
  const into =
    node.inputs?.findIndex((input) => PICTURES.includes(input.type) || (passesOn && input.link != null)) ?? -1;
  return into < 0 ? undefined : follow(node, into, { ...search, exact: search.exact && passesOn });
}

function fromSubgraph(node, slot, search) {
  const link = linkOf(node.subgraph, node.subgraph.outputs?.[slot]?.linkIds?.[0]);
  const origin = link && node.subgraph.getNodeById(link.origin_id);
  return origin && pictureOf(origin, link.origin_slot, { ...search, steps: search.steps + 1 });
}

function ownPicture(node, { exact }) {
  const from = node.title || node.type;
  for (const widget of node.widgets ?? []) {
    const name = FILE_WIDGETS.includes(widget.name) ? fileName(widget.value) : undefined;
    if (!name) continue;
    const video = VIDEO.test(name.path);
    if (video || IMAGE.test(name.path)) return { key: JSON.stringify(name), url: viewUrl(name), video, exact, from };
  }
  const shown = node.imgs?.[0];
  return shown?.src ? { key: shown.src, element: shown, exact, from } : undefined;
}

/** "folder/name.png [output]" -> where it lies. Some nodes hold the parts already. */
function fileName(value) {
  if (value && typeof value === "object" && value.filename) {
    return { path: value.filename, subfolder: value.subfolder ?? "", type: value.type ?? "input" };
  }
  if (typeof value !== "string" || !value) return undefined;
  const [, whole, type = "input"] = value.match(/^(.*?)(?: \[(\w+)\])?$/s);
  const cut = whole.lastIndexOf("/");
  return { path: whole.slice(cut + 1), subfolder: whole.slice(0, Math.max(cut, 0)), type };
}

/** Address of a file on the server, below the page's own. */
export function viewUrl({ path, filename, subfolder, type }) {
  const query = { filename: path ?? filename, subfolder: subfolder ?? "", type: type ?? "input" };
  return `/view?${new URLSearchParams(query)}`;
}

function linkOf(graph, id) {
  if (id === null || id === undefined || !graph) return undefined;
  return graph.getLink?.(id) ?? graph.links?.get?.(id) ?? graph.links?.[id];
}

function findNode(graph, wanted) {
  for (const node of graph?.nodes ?? []) {
    const found = wanted(node) ? node : node.subgraph && findNode(node.subgraph, wanted);
    if (found) return found;
  }
}
