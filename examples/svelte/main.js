import { mount } from "svelte";
import { connect } from "tidegate";
import App from "./App.svelte";

const place = document.querySelector("#app");
mount(App, { target: place, props: { client: connect(place.dataset.gateway) } });
