/** Undo and redo over values that are never changed in place. */

const LONGEST = 300;

export class History {
  constructor(value) {
    this.reset(value);
  }

  reset(value) {
    [this.value, this.past, this.future, this.kind] = [value, [], [], undefined];
  }

  /** Make `value` the present. Successive values of one `kind` (nudges, a slider) count as one step. */
  push(value, kind = undefined) {
    if (kind === undefined || kind !== this.kind) this.past.push(this.value);
    if (this.past.length > LONGEST) this.past.shift();
    [this.value, this.future, this.kind] = [value, [], kind];
  }

  undo() {
    if (this.past.length) this.#step(this.past, this.future);
  }

  redo() {
    if (this.future.length) this.#step(this.future, this.past);
  }

  #step(from, to) {
    to.push(this.value);
    [this.value, this.kind] = [from.pop(), undefined];
  }
}
