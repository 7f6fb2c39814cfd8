//! What is said and where: New Year's greetings and names of rooms in several languages, so that
//! content is of many lengths and scripts.

/// Contents of messages; a message's number picks one.
pub const GREETINGS: [&str; 24] = [
    "새해 복 많이 받으세요! 🎉",
    "올 한 해도 건강하고 행복하세요 🙏 떡국은 두 그릇 먹기로 해요 🥣",
    "카운트다운 시작합니다… 셋, 둘, 하나! 🎆🎆🎆",
    "작년에 고마웠어요. 올해는 더 자주 만나요 💛",
    "Happy New Year! 🥂",
    "Ten, nine, eight… has anybody seen my glasses? 👓✨",
    "May your year be as bright as this sky tonight 🎇",
    "First message of the year, and it is already late 😅",
    "あけましておめでとうございます 🎍 今年もよろしくお願いします",
    "良いお年を!初日の出を見に行こう 🌅",
    "新年快乐!万事如意 🧧🧨",
    "新的一年,平安喜樂,身體健康 🏮",
    "Frohes neues Jahr! Guten Rutsch gehabt? 🐷🍀",
    "Bonne année et bonne santé ! 🍾 Qui a mangé la dernière part de galette ?",
    "¡Feliz Año Nuevo! Doce uvas, doce deseos 🍇",
    "Feliz Ano Novo! Sete ondas, de branco, na praia 🌊",
    "Felice anno nuovo! Le lenticchie portano fortuna 🍀",
    "С Новым годом! Пусть всё загаданное сбудется 🎄❄️",
    "Šťastný nový rok! Hodně zdraví 🥳",
    "Szczęśliwego Nowego Roku! 🎊",
    "Chúc mừng năm mới! 🌸 An khang thịnh vượng",
    "สวัสดีปีใหม่ ขอให้มีความสุขมาก ๆ 🎈",
    "नया साल मुबारक हो! 🪔",
    "كل عام وأنتم بخير 🌙✨ سنة سعيدة",
];

/// Names of rooms, each followed by what makes it unique.
const ROOMS: [&str; 12] = [
    "새해맞이 광장 🎆",
    "보신각 종소리 🔔",
    "정동진 해돋이 🌅",
    "Midnight Countdown ⏰",
    "Fireworks by the River 🎇",
    "初詣 ⛩️",
    "跨年倒數 🏮",
    "Silvesterfeier 🥂",
    "Réveillon entre amis 🍾",
    "Nochevieja 🍇",
    "Новогодний стол 🎄",
    "Réveillon na praia 🌊",
];

/// The name of a room of a run.
pub fn room_name(run: u32, room: u32) -> String {
    let name = ROOMS[room as usize % ROOMS.len()];
    format!("{name} b{run:08x}r{room}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_greeting_needs_escaping_in_json_and_all_differ() {
        for greeting in GREETINGS.iter().chain(&ROOMS) {
            assert_eq!(serde_json::to_string(greeting).unwrap(), format!("\"{greeting}\""));
        }
        let mut all = GREETINGS.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), GREETINGS.len());
        assert_ne!(room_name(1, 0), room_name(1, 12));
    }
}
