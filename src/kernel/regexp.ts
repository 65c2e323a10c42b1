// Text that is to be found as it stands inside a regular expression; JavaScript's and RE2's syntax agree on these characters.

export const escapeRegExp = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
