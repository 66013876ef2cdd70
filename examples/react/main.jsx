import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "tidegate";
import { App } from "./App.jsx";

const place = document.querySelector("#app");
const client = connect(place.dataset.gateway);
createRoot(place).render(<StrictMode><App client={client} /></StrictMode>);
