// The client looks for a document when it is loaded. Here it finds one that `World.isBrowser` makes a browser's.

globalThis.document = {};
