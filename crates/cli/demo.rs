//! What `sinew up` has to show: an administrator, and a few products with stock.
//!
//! The administrator is made in the user service's own store, because no rpc makes one. Everything else goes through the
//! gateway, as whoever runs a shop would do it; repeating it changes nothing.

use crate::{
    admin::Administrator,
    exit::{Exit, chain},
    http::{Ask, Http},
};
use rand::{Rng, distr::Alphanumeric};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shop_user::{DisplayName, Email, Password};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Where the administrator's credentials lie in the data directory.
const FILE: &str = "demo-admin.json";

/// 24 letters and digits: 142 bits.
const PASSWORD: usize = 24;

/// Name, description, price in cents, pieces.
const PRODUCTS: &[(&str, &str, i64, i64)] = &[
    ("Teapot", "Cast iron, 1 l", 2_490, 1_000_000),
    ("Cup", "Porcelain, 0.2 l", 650, 1_000_000),
    ("Oolong, 100 g", "From the first picking", 1_280, 1_000_000),
    ("Kettle", "Stainless steel; the last three", 5_900, 3),
];

/// The administrator of a data directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Admin {
    pub(crate) email: String,
    pub(crate) password: String,
}

impl Admin {
    /// The one that was made here before.
    pub(crate) fn open(data: &Path) -> Result<Option<Self>, Exit> {
        let path = data.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| {
                Exit::unavailable(format!(
                    "{} cannot be read: {e}; delete it and the user service's store to begin anew",
                    path.display()
                ))
            }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Exit::unavailable(format!("{} cannot be read: {e}", path.display()))),
        }
    }

    /// The one that was made here before, or a new one; the second value tells which.
    pub(crate) async fn ensure(data: &Path, users: shop_user::Config) -> Result<(Self, bool), Exit> {
        let known = Self::open(data)?;
        let new = known.is_none();
        let admin = match known {
            Some(admin) => admin,
            None => {
                let password = rand::rng().sample_iter(Alphanumeric).take(PASSWORD).map(char::from).collect();
                let admin = Self { email: "admin@shop.example".into(), password };
                admin.write(data)?;
                admin
            }
        };
        // A process that died between writing the file and this left only the file.
        let made = admin.administrator()?.ensure(users, "sinew up").await?;
        if new && !made.created {
            return Err(Exit::unavailable(format!(
                "the user store has an {} whose password is in no {FILE} here: use the data directory it was made with",
                admin.email
            )));
        }
        Ok((admin, new))
    }

    fn administrator(&self) -> Result<Administrator, Exit> {
        let unfit = |e: &dyn std::error::Error| Exit::unavailable(format!("the administrator in {FILE}: {}", chain(e)));
        Ok(Administrator {
            email: Email::new(&self.email).map_err(|e| unfit(&e))?,
            name: DisplayName::new("Administrator").map_err(|e| unfit(&e))?,
            password: Password::choose(self.password.clone()).map_err(|e| unfit(&e))?,
        })
    }

    fn write(&self, data: &Path) -> Result<(), Exit> {
        let path = data.join(FILE);
        let cannot = |e: std::io::Error| Exit::unavailable(format!("{} cannot be written: {e}", path.display()));
        let text = serde_json::to_string(self).map_err(|e| Exit::no(format!("no JSON: {e}")))?;
        let draft = path.with_extension("draft");
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&draft).map_err(cannot)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot)?;
        fs::rename(&draft, &path).map_err(cannot)
    }
}

/// Logs in and gives the bearer token.
pub(crate) async fn log_in(gateway: &Http, email: &str, password: &str) -> Result<String, Exit> {
    let body = json!({ "email": email, "password": password });
    let session = gateway.expect(Ask::post("/api/v1/sessions", &body)).await?;
    let token = session["access_token"].as_str().or(session["accessToken"].as_str());
    token.map(str::to_owned).ok_or_else(|| Exit::unavailable("the gateway answered a log-in without a token"))
}

/// Puts products on the shelves that are not there yet, and gives the id of the first.
pub(crate) async fn stock(gateway: &Http, admin: &Admin) -> Result<String, Exit> {
    let token = log_in(gateway, &admin.email, &admin.password).await?;
    let listed = gateway.expect(Ask::get("/api/v1/products?page_size=500").bearer(&token)).await?;
    let mut first = String::new();
    for (name, description, amount, pieces) in PRODUCTS {
        let known = listed["products"].as_array().into_iter().flatten().find(|product| product["name"] == *name);
        let id = match known.and_then(id) {
            Some(id) => id,
            None => {
                let body = json!({ "name": name, "description": description, "price": { "amount": amount, "currency": "EUR" } });
                let made = gateway.expect(Ask::post("/api/v1/products", &body).bearer(&token).key(&format!("demo-{name}"))).await?;
                id(&made["product"]).ok_or_else(|| Exit::unavailable("the gateway answered a new product without its id"))?
            }
        };
        let path = format!("/api/v1/products/{id}/stock");
        let stock = gateway.send(Ask::get(&path).bearer(&token)).await.map_err(|e| gateway.unreachable(&e))?;
        if stock.status == http::StatusCode::NOT_FOUND {
            let body = json!({ "delta": pieces });
            gateway.expect(Ask::post(&format!("{path}:adjust"), &body).bearer(&token).key(&format!("demo-{id}"))).await?;
        }
        if first.is_empty() {
            first = id;
        }
    }
    Ok(first)
}

fn id(product: &Value) -> Option<String> {
    product["product_id"].as_str().or(product["productId"].as_str()).map(str::to_owned)
}
