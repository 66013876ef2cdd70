// The sources of the client keep what client.d.ts promises. Only compiled: tsconfig.json.

import type * as promised from "../../../src/tidegate/web/client.js";
import * as kept from "../../../clients/js/src/client.js";

export const all: { [Name in keyof typeof promised]: (typeof promised)[Name] } = kept;
