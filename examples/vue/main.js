import { connect } from "tidegate";
import { createApp } from "vue";
import App from "./App.vue";

const place = document.querySelector("#app");
createApp(App, { client: connect(place.dataset.gateway) }).mount(place);
