//! Files that are not what we wrote.

use super::*;

/// A database of some pages, as the bytes of its file.
async fn bytes() -> Vec<u8> {
    let place = Place::new();
    let db = place.open().unwrap();
    for n in 0..3_u32 {
        db.write(move |t| {
            (0..100).try_for_each(|row: u32| t.put(T, &(row * 3 + n).to_be_bytes(), &[7; 100]))
        })
        .await
        .unwrap();
    }
    db.close().unwrap();
    std::fs::read(place.path()).unwrap()
}

/// Opens these bytes and reads all: whatever comes of it, it is told as an error.
fn look(bytes: &[u8]) -> Result<usize, Error> {
    let place = Place::new();
    std::fs::write(place.path(), bytes).unwrap();
    let db = place.open()?;
    let read = db.read()?;
    read.get(T, &7_u32.to_be_bytes())?;
    let rows = read.range(T, Unbounded, Unbounded)?.collect::<Result<Vec<_>, _>>()?;
    db.close()?;
    Ok(rows.len())
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let text = b"a text that is long enough to be taken for something".repeat(100);
    for bytes in [&b""[..], b"short", &text] {
        let told = look(bytes).unwrap_err();
        assert!(matches!(told, Error::Damaged(_)), "{told}");
    }
}

#[tokio::test]
async fn a_cut_file_is_told() {
    let bytes = bytes().await;
    assert_eq!(look(&bytes).unwrap(), 300);
    for part in [1, 9, 64, 320, 4096, 4097, 8192, bytes.len() / 2, bytes.len() - 4096] {
        let told = look(&bytes[..part]).unwrap_err();
        assert!(matches!(told, Error::Damaged(_) | Error::Store(_)), "{part}: {told}");
    }
}

#[tokio::test]
async fn a_damaged_page_is_no_panic() {
    let bytes = bytes().await;
    let mut told = 0;
    for page in (0..bytes.len()).step_by(4096) {
        for fill in [0, 0xff] {
            let mut damaged = bytes.clone();
            let end = damaged.len().min(page + 4096);
            damaged[page.max(64)..end].fill(fill);
            match look(&damaged) {
                Ok(rows) => assert_eq!(rows, 300, "page {page} was not needed"),
                Err(_) => told += 1,
            }
        }
    }
    assert!(told > 0);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let place = Place::new();
    let other = ::redb::Database::create(place.path()).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(::redb::TableDefinition::<u64, u64>::new("meta")).unwrap();
    write.commit().unwrap();
    drop(other);
    assert!(matches!(place.open(), Err(Error::Damaged(_))));
}
