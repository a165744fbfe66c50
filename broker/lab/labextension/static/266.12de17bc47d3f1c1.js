"use strict";(self.rspackChunkjupyter_broker=self.rspackChunkjupyter_broker||[]).push([[266],{646(r,o,e){var t=e(601),n=e.n(t),i=e(314),a=(e.n(i))()(n());a.push([r.id,`/* Lab's own variables throughout, so that it follows every theme. */

.jp-Broker {
  display: flex;
  flex-direction: column;
  min-width: var(--jp-sidebar-min-width);
  color: var(--jp-ui-font-color1);
  background: var(--jp-layout-color1);
  font-size: var(--jp-ui-font-size1);
  line-height: 1.4;
}

.jp-Broker:focus {
  outline: none;
}

.jp-Broker button {
  font: inherit;
  color: inherit;
}

.jp-Broker-tabAsks .lm-TabBar-tabIcon {
  position: relative;
}

.jp-Broker-tabAsks .lm-TabBar-tabIcon::after {
  content: '';
  position: absolute;
  top: 0;
  right: 0;
  width: 8px;
  height: 8px;
  border-radius: 50%;
  background: var(--jp-warn-color1);
}

/* How the connection is */

.jp-Broker-status {
  display: flex;
  align-items: baseline;
  gap: 8px;
  padding: 8px 12px;
  border-bottom: 1px solid var(--jp-border-color2);
  color: var(--jp-ui-font-color2);
}

.jp-Broker-dot {
  flex: none;
  width: 8px;
  height: 8px;
  border-radius: 50%;
  background: var(--jp-success-color1);
}

.jp-Broker-status:not([data-connection='open']) .jp-Broker-dot {
  background: none;
  box-shadow: inset 0 0 0 2px var(--jp-ui-font-color3);
}

.jp-Broker-says {
  margin: 0;
  padding: 6px 12px;
  border-left: 3px solid var(--jp-warn-color1);
  background: var(--jp-layout-color2);
  overflow-wrap: anywhere;
}

/* Sessions */

.jp-Broker-sessions {
  flex: 1;
  min-height: 0;
  overflow: hidden auto;
  padding-bottom: 12px;
}

.jp-Broker-session > header {
  position: sticky;
  top: 0;
  z-index: 1;
  display: flex;
  align-items: center;
  padding-right: 6px;
  border-bottom: 1px solid var(--jp-border-color3);
  background: var(--jp-layout-color1);
}

.jp-Broker-session ul {
  margin: 0;
  padding: 0;
  list-style: none;
}

.jp-Broker-item {
  min-width: 0;
  border: none;
  background: none;
  text-align: left;
}

button.jp-Broker-item {
  cursor: pointer;
}

.jp-Broker-item:focus-visible,
.jp-Broker-button:focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: -2px;
}

.jp-Broker-sessionName {
  flex: 1;
  display: flex;
  align-items: center;
  gap: 4px;
  padding: 6px 4px 6px 6px;
}

.jp-Broker-sessionName svg {
  display: block;
}

.jp-Broker-name {
  flex: 0 1 auto;
  font-weight: 600;
}

.jp-Broker-kernel {
  flex: 1 1 0;
  min-width: 30%;
  padding-left: 4px;
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
}

.jp-Broker-name,
.jp-Broker-kernel,
.jp-Broker-title,
.jp-Broker-line {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.jp-Broker-session[data-open='false'] .jp-Broker-name {
  font-weight: 400;
}

.jp-Broker-button {
  flex: none;
  display: grid;
  place-items: center;
  width: 26px;
  height: 26px;
  padding: 0;
  border: none;
  border-radius: var(--jp-border-radius);
  background: none;
  cursor: pointer;
}

.jp-Broker-button:hover {
  background: var(--jp-layout-color3);
}

.jp-Broker .jp-Broker-more {
  width: 100%;
  padding: 4px 12px 4px 34px;
  color: var(--jp-content-link-color);
  font-size: var(--jp-ui-font-size0);
}

.jp-Broker-nothing {
  margin: 0;
  padding: 6px 12px 6px 34px;
  color: var(--jp-ui-font-color2);
}

p.jp-Broker-nothing {
  padding: 12px;
}

/* Executions */

.jp-Broker-row {
  display: flex;
  align-items: center;
  padding-right: 6px;
}

.jp-Broker-row:hover,
.jp-Broker-more:hover,
.jp-Broker-sessionName:hover {
  background: var(--jp-layout-color2);
}

.jp-Broker-row > .jp-Broker-item {
  flex: 1;
  display: grid;
  grid-template-columns: 16px minmax(0, 1fr) auto;
  column-gap: 8px;
  align-content: center;
  box-sizing: border-box;
  min-height: 44px;
  padding: 4px 4px 4px 12px;
}

.jp-Broker-line {
  grid-column: 2;
  color: var(--jp-ui-font-color2);
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-ui-font-size0);
  line-height: 1.6;
}

.jp-Broker-time,
.jp-Broker-facts {
  justify-self: end;
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
  font-variant-numeric: tabular-nums;
  line-height: 1.6;
  white-space: nowrap;
}

.jp-Broker-actions {
  display: flex;
}

/* In a narrow sidebar a state is said by its sign alone, and what is typed has a line of its own. */

.jp-Broker-sessions {
  container-type: inline-size;
}

@container (width < 320px) {
  .jp-Broker-word {
    display: none;
  }

  .jp-Broker-prompt input.jp-mod-styled {
    grid-column: 1 / -1;
  }

  .jp-Broker-prompt button[type='submit'] {
    grid-column: 2;
  }
}

.jp-Broker-sign {
  grid-row: 1;
  align-self: center;
  display: grid;
  place-items: center;
  width: 16px;
  height: 16px;
}

.jp-Broker-sign svg {
  display: block;
}

.jp-Broker-sign[data-state='completed'] .jp-icon3[fill] {
  fill: var(--jp-success-color1);
}

.jp-Broker-sign[data-state='awaiting_input'] .jp-icon3[fill] {
  fill: var(--jp-warn-color1);
}

.jp-Broker-sign[data-state='failed'] .jp-icon3[fill],
.jp-Broker-sign[data-state='killed'] .jp-icon3[fill],
.jp-Broker-sign[data-state='lost'] .jp-icon3[fill] {
  fill: var(--jp-error-color1);
}

.jp-Broker-ring {
  box-sizing: border-box;
  width: 12px;
  height: 12px;
  border: 2px solid var(--jp-border-color1);
  border-top-color: var(--jp-brand-color1);
  border-radius: 50%;
  animation: jp-Broker-turn 1.2s linear infinite;
}

@keyframes jp-Broker-turn {
  to {
    rotate: 1turn;
  }
}

@media (prefers-reduced-motion: reduce) {
  .jp-Broker-ring {
    animation: none;
    border-color: var(--jp-brand-color1);
  }
}

/* Prompts */

.jp-Broker-prompt {
  display: grid;
  grid-template-columns: minmax(0, 1fr) auto auto;
  gap: 6px;
  margin: 2px 12px 8px 36px;
  padding: 8px;
  border-left: 3px solid var(--jp-warn-color1);
  background: var(--jp-layout-color2);
}

.jp-Broker-prompt label {
  grid-column: 1 / -1;
  max-height: 9em;
  overflow: auto;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-ui-font-size0);
  overflow-wrap: anywhere;
  white-space: pre-wrap;
}

.jp-Broker-prompt input.jp-mod-styled,
.jp-Broker-prompt button.jp-mod-styled {
  height: 28px;
  margin: 0;
  line-height: 26px;
}

.jp-Broker-prompt input.jp-mod-styled {
  width: 100%;
  box-sizing: border-box;
}

.jp-Broker-prompt button.jp-mod-styled {
  padding: 0 10px;
}
`,""]),e.d(o,{},{A:a})},314(r){r.exports=function(r){var o=[];return o.toString=function(){return this.map(function(o){var e="",t=void 0!==o[5];return o[4]&&(e+="@supports (".concat(o[4],") {")),o[2]&&(e+="@media ".concat(o[2]," {")),t&&(e+="@layer".concat(o[5].length>0?" ".concat(o[5]):""," {")),e+=r(o),t&&(e+="}"),o[2]&&(e+="}"),o[4]&&(e+="}"),e}).join("")},o.i=function(r,e,t,n,i){"string"==typeof r&&(r=[[null,r,void 0]]);var a={};if(t)for(var p=0;p<this.length;p++){var s=this[p][0];null!=s&&(a[s]=!0)}for(var l=0;l<r.length;l++){var d=[].concat(r[l]);t&&a[d[0]]||(void 0!==i&&(void 0===d[5]||(d[1]="@layer".concat(d[5].length>0?" ".concat(d[5]):""," {").concat(d[1],"}")),d[5]=i),e&&(d[2]&&(d[1]="@media ".concat(d[2]," {").concat(d[1],"}")),d[2]=e),n&&(d[4]?(d[1]="@supports (".concat(d[4],") {").concat(d[1],"}"),d[4]=n):d[4]="".concat(n)),o.push(d))}},o}},601(r){r.exports=function(r){return r[1]}},665(r,o,e){e.r(o);var t=e(72),n=e.n(t),i=e(825),a=e.n(i),p=e(659),s=e.n(p),l=e(56),d=e.n(l),c=e(540),u=e.n(c),f=e(494),j=e.n(f),m=e(646),g={};g.styleTagTransform=j(),g.setAttributes=d(),g.insert=s().bind(null,"head"),g.domAPI=a(),g.insertStyleElement=u(),n()(m.A,g);let h=m.A&&m.A.locals?m.A.locals:void 0;e.d(o,{},{default:h})},72(r){var o=[];function e(r){for(var e=-1,t=0;t<o.length;t++)if(o[t].identifier===r){e=t;break}return e}function t(r,t){for(var n={},i=[],a=0;a<r.length;a++){var p=r[a],s=t.base?p[0]+t.base:p[0],l=n[s]||0,d="".concat(s," ").concat(l);n[s]=l+1;var c=e(d),u={css:p[1],media:p[2],sourceMap:p[3],supports:p[4],layer:p[5]};if(-1!==c)o[c].references++,o[c].updater(u);else{var f=function(r,o){var e=o.domAPI(o);return e.update(r),function(o){o?(o.css!==r.css||o.media!==r.media||o.sourceMap!==r.sourceMap||o.supports!==r.supports||o.layer!==r.layer)&&e.update(r=o):e.remove()}}(u,t);t.byIndex=a,o.splice(a,0,{identifier:d,updater:f,references:1})}i.push(d)}return i}r.exports=function(r,n){var i=t(r=r||[],n=n||{});return function(r){r=r||[];for(var a=0;a<i.length;a++){var p=e(i[a]);o[p].references--}for(var s=t(r,n),l=0;l<i.length;l++){var d=e(i[l]);0===o[d].references&&(o[d].updater(),o.splice(d,1))}i=s}}},659(r){var o={};r.exports=function(r,e){var t=function(r){if(void 0===o[r]){var e=document.querySelector(r);if(window.HTMLIFrameElement&&e instanceof window.HTMLIFrameElement)try{e=e.contentDocument.head}catch(r){e=null}o[r]=e}return o[r]}(r);if(!t)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");t.appendChild(e)}},540(r){r.exports=function(r){var o=document.createElement("style");return r.setAttributes(o,r.attributes),r.insert(o,r.options),o}},56(r,o,e){r.exports=function(r){var o=e.nc;o&&r.setAttribute("nonce",o)}},825(r){r.exports=function(r){if("u"<typeof document)return{update:function(){},remove:function(){}};var o=r.insertStyleElement(r);return{update:function(e){var t,n,i;t="",e.supports&&(t+="@supports (".concat(e.supports,") {")),e.media&&(t+="@media ".concat(e.media," {")),(n=void 0!==e.layer)&&(t+="@layer".concat(e.layer.length>0?" ".concat(e.layer):""," {")),t+=e.css,n&&(t+="}"),e.media&&(t+="}"),e.supports&&(t+="}"),(i=e.sourceMap)&&"u">typeof btoa&&(t+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(i))))," */")),r.styleTagTransform(t,o,r.options)},remove:function(){var r;null===(r=o).parentNode||r.parentNode.removeChild(r)}}}},494(r){r.exports=function(r,o){if(o.styleSheet)o.styleSheet.cssText=r;else{for(;o.firstChild;)o.removeChild(o.firstChild);o.appendChild(document.createTextNode(r))}}}}]);